"""Terms of an analysis that an imputation model lacks, as records and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bayesimp.contract import ImputationModel
from bayesimp.events import Event
from bayesimp.formulas.formula import Formula, RandomTerm
from bayesimp.formulas.span import Monomial, Polynomial, spelled
from bayesimp.formulas.syntax import column_names
from bayesimp.messages import listing
from bayesimp.table.incomplete import IncompleteData

__all__ = ["NOT_CONGENIAL", "Gap", "Need", "Verdict"]

NOT_CONGENIAL = "not congenial"  # kind of the events
MOST_LINES = 6  # gaps listed in a warning


@dataclass(frozen=True)
class Need:
    """What the model of a variable must contain for a term of the analysis.

    Attributes
    ----------
    term
        The term of the analysis.
    columns
        Columns of the model's fixed part, or of its random part if ``random``.
    role
        Role of the columns: ``"the response"``; ``"covariate"``; ``"implied"`` by the term; ``"closely"``, if a model
        that has them is closely compatible; ``"itself"``; ``"group"``, the clusters; ``"other group"``, another
        grouping factor.
    kind
        The kind of gap, if there are no columns to compare.
    text
        How the columns would be written, if not like the term.
    approximate
        Whether a model that has the columns is compatible in its mean only.
    any_form
        Whether a function of the variable suffices, as in the model of a covariate, whose distribution the analysis
        does not specify.
    """

    term: str
    columns: list[Polynomial]
    role: str
    random: bool = False
    kind: str = ""
    text: str = ""
    approximate: bool = False
    any_form: bool = False

    def spelled(self, lacks: Monomial) -> str:
        """The part of the columns that a model lacks, as the user wrote it if it is all of them."""
        whole = [monomial for column in self.columns for monomial in column] == [lacks]
        return (self.text or self.term) if whole else spelled(lacks)


@dataclass(frozen=True)
class Gap:
    """Something that an analysis contains and the model of an imputed variable lacks.

    Attributes
    ----------
    kind
        ``"variable"``, ``"interaction"``, ``"nonlinear term"``, ``"cluster mean"``, ``"random slope"``, ``"cluster
        effects"``, ``"residual variances"`` (one for each cluster); ``"nonlinear in itself"``: the analysis is not
        linear in the imputed covariate; ``"in part"``: the model has what products imply for its mean but lacks what
        they imply for its variance.
    term
        The term of the analysis.
    variable
        The variable whose model lacks it.
    lacks
        What that model lacks, as written in a formula.
    message
        A sentence for the user.
    call
        The call that closes the gap; None if there is none.
    how
        How well the call closes it: ``"approximately"``, ``"only in part"`` (compatible in the mean only), or "" if the
        new model contains the term.
    other_group
        Whether it concerns a grouping factor other than the clusters of the model, which no call adds.
    """

    kind: str
    term: str
    variable: str
    lacks: str
    message: str
    call: str | None = None
    how: str = ""
    other_group: bool = False

    @classmethod
    def of(cls, variable: str, need: Need, lacks: str = "", approximate: bool = False) -> Gap:
        """The gap for a need; approximate: the model has what is needed but is still not exactly compatible."""
        if approximate:
            whole = f"{_slope_of(need)}{need.term}"
            if need.role == "closely":
                message = (
                    f"the model of '{variable}' has what {whole} implies and is approximately compatible"
                )
                return cls("approximate", need.term, variable, lacks, message)
            message = (
                f"the model of '{variable}' has the products that {whole} implies, but its variance does not change "
                "with them, so much of the bias remains"
            )
            return cls("in part", need.term, variable, lacks, message)
        text = sentence(variable, need, lacks)
        how = ("approximately" if need.role == "closely" else "only in part") if need.approximate else ""
        return cls(
            need.kind, need.term, variable, lacks, text, how=how, other_group=need.role == "other group"
        )


def sentence(variable: str, need: Need, lacks: str) -> str:
    """A sentence saying what the model of a variable lacks."""
    if need.kind == "nonlinear in itself":
        return (
            f"{need.term} is not linear in '{variable}', so no model of FCS or JointNormal that imputes '{variable}' "
            "is compatible with that"
        )
    if need.kind == "residual variances":
        return (
            f"the model of '{variable}' has one residual variance for all clusters, but the random slope of "
            f"{need.term} implies one for each"
        )
    what = {
        "variable": f"leaves out {lacks}",
        "interaction": f"has no product {lacks}",
        "nonlinear term": f"has no {lacks}",
        "cluster mean": f"has no {lacks}",
        "random slope": f"has no random slope of {lacks}",
        "cluster effects": f"has no effects of {lacks}",
    }[need.kind]
    if need.role == "other group" and need.kind == "cluster effects":
        what += (
            ", a grouping factor other than its clusters (name both for the table, "
            "bi.IncompleteData(table, cluster=[...]), and default models of bi.FCS have effects of both)"
        )
    why = {
        "implied": f", which {_slope_of(need)}{need.term} implies",
        "closely": f", which {_slope_of(need)}{need.term} implies",
        "covariate": "" if need.kind == "variable" else ", on which the response also depends",
    }.get(need.role, "")
    return f"the model of '{variable}' {what}{why}"


def _slope_of(need: Need) -> str:
    return "the random slope of " if need.random else ""


@dataclass(frozen=True)
class Verdict:
    """The comparison of an analysis with an imputation model.

    Attributes
    ----------
    gaps
        What the model lacks; the analysis is congenial if there are none.
    approximate
        Gaps where the model has all that it can have but is still only approximately compatible.
    unknown, whole
        Variables whose models are unknown, and whether the whole model is.
    call
        The call that closes all gaps that a call can close.
    """

    analysis: str
    gaps: tuple[Gap, ...] = ()
    approximate: tuple[Gap, ...] = ()
    unknown: tuple[str, ...] = ()
    whole: bool = False
    call: str | None = None

    @classmethod
    def of(
        cls,
        model: ImputationModel,
        analysis: Formula,
        found: Sequence[Gap],
        unknown: tuple[str, ...],
        offset: str | None,
    ) -> Verdict:
        """The verdict with calls: of the same engine if that closes the gaps, otherwise of JointGLMM."""
        gaps = tuple(gap for gap in found if gap.kind != "approximate")
        about = tuple(gap for gap in found if gap.kind == "approximate")
        factor = _as_factor(model, analysis, offset)
        if factor is not None and any(gap.how or _call(model, [gap]) is None for gap in gaps):
            gaps = tuple(replace(gap, call=factor, how="") for gap in gaps)
            return cls(analysis.text, gaps, about, unknown, False, factor)
        gaps = tuple(replace(gap, call=_call(model, [gap])) for gap in gaps)
        return cls(analysis.text, gaps, about, unknown, False, _call(model, gaps))

    def warning(self) -> str | None:
        """The message for the user: the gaps, one per line, and the call; None if there are none."""
        if not self.gaps:
            return None
        shown = [f"  - {gap.message}" for gap in self.gaps[:MOST_LINES]]
        if len(self.gaps) > MOST_LINES:
            shown.append(f"  - and {len(self.gaps) - MOST_LINES} more, in .events of the fits")
        text = (
            f"{self.analysis!r} contains terms that the imputation model lacks. Imputed values are drawn without "
            "them, which "
            "biases the estimates:\n" + "\n".join(shown)
        )
        if self.call is None:
            return text
        ways = {"all but": [gap for gap in self.gaps if gap.call is None]}
        ways |= {
            how: [gap for gap in self.gaps if gap.how == how] for how in ("only in part", "approximately")
        }
        how = [
            f"{way} {_terms(gaps)}" if way == "all but" else f"{_terms(gaps)} {way}"
            for way, gaps in ways.items()
            if gaps
        ]
        said = f" ({'; '.join(how)})" if how else ""
        return f"{text}\nImpute with it{said}: {self.call}"

    def events(self, cells: Mapping[str, int]) -> tuple[Event, ...]:
        """One event per gap, with the number of imputed cells as its count."""
        made = []
        for gap in self.gaps:
            cure = "" if gap.call is None else f". Impute with {gap.call}"
            made.append(
                Event(NOT_CONGENIAL, gap.variable, f"{gap.message}{cure}", cells.get(gap.variable, 1))
            )
        made += [
            Event("congenial approximately", gap.variable, gap.message, cells.get(gap.variable, 1))
            for gap in self.approximate
        ]
        if self.unknown:
            whose = "the imputation model does not say" if self.whole else "user-defined models do not say"
            text = (
                f"{whose} what it contains for {listing(self.unknown)}: not compared with {self.analysis!r}"
            )
            made.append(Event("congeniality not checked", self.unknown[0], text, len(self.unknown)))
        return tuple(made)


def _terms(gaps: Iterable[Gap]) -> str:
    return ", ".join(dict.fromkeys(gap.term for gap in gaps))


def _as_factor(model: ImputationModel, analysis: Formula, offset: str | None) -> str | None:
    """The call of JointGLMM, which takes the analysis as a factor of its model; None if it does not take this one.

    It closes every gap, including terms that are nonlinear in an imputed covariate.
    """
    own = [term for term in analysis.random if term.names == (model.data.cluster,)]
    further = [term for term in analysis.random if term not in own]
    grouped = not analysis.random or (len(own) == 1 and all(term.columns == "1" for term in further))
    derived = not set(model.definitions()).isdisjoint(analysis.columns)
    incomplete = {name for name in model.data.variables if model.data.missing(name).any()}
    unfixed = any(not incomplete.isdisjoint(column_names(call)) for call in analysis.over_rows)
    if offset is not None or not grouped or analysis.independent or unfixed or derived:
        return None
    return f"bi.JointGLMM({_with_clusters(model.data, further)}, {analysis.text!r})"


def _with_clusters(data: IncompleteData, further: Sequence[RandomTerm]) -> str:
    """``data``, or the call that makes it with the cluster columns of these grouping factors."""
    names = list(dict.fromkeys((*data.cluster_columns, *(name for term in further for name in term.names))))
    if len(names) == len(data.cluster_columns):
        return "data"
    inferred = IncompleteData(data.frame, names).families
    own = {name: family for name, family in data.families.items() if inferred.get(name, family) != family}
    return f"bi.IncompleteData(data.frame, {names!r}{f', {own!r}' if own else ''})"


def _call(model: ImputationModel, gaps: Sequence[Gap]) -> str | None:
    """The call that builds the same model with what the gaps name; None if there is none."""
    fixed: dict[str, list[str]] = {}
    random: dict[str, list[str]] = {}
    clusters, variances = [], []
    for gap in gaps:
        if gap.other_group:
            continue
        if gap.kind == "residual variances":
            variances.append(gap.variable)
        elif gap.kind == "cluster effects":
            clusters.append(gap.variable)
        elif gap.kind == "random slope":
            random.setdefault(gap.variable, []).append(gap.lacks)
        elif gap.kind not in ("nonlinear in itself", "in part"):
            fixed.setdefault(gap.variable, []).append(gap.lacks)
    if not (fixed or random or clusters or variances):
        return None
    return model.call_with(fixed, random, clusters, variances)
