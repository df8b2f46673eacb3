"""What an imputation model lacks of an analysis, as records, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bayesimp.contract import ImputationModel
from bayesimp.events import Event
from bayesimp.formulas.formula import Formula
from bayesimp.formulas.span import Monomial, Polynomial, spelled
from bayesimp.messages import listing

__all__ = ["NOT_CONGENIAL", "Gap", "Need", "Verdict"]

NOT_CONGENIAL = "not congenial"  # kind of events
MOST_LINES = 6  # of gaps in a warning


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
        Role of the columns: ``"the response"``; ``"covariate"``; ``"implied"`` by the term, or such that a model
        that has them is ``"closely"`` compatible; ``"itself"``, ``"group"``, the clusters; ``"other group"``, another
        grouping factor.
    kind
        Given where no columns are to be compared.
    text
        How the columns would be written, if not as the term.
    approximate
        Whether a model that has them is compatible in its mean only.
    any_form
        Whether a function of the variable will do: in the model of a covariate, whose distribution the analysis does not
        specify.
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
        """A part of the columns that a model lacks: as the user wrote it, if it is all of them."""
        whole = [monomial for column in self.columns for monomial in column] == [lacks]
        return (self.text or self.term) if whole else spelled(lacks)


@dataclass(frozen=True)
class Gap:
    """One thing that an analysis contains and the model of an imputed variable does not.

    Attributes
    ----------
    kind
        ``"variable"``, ``"interaction"``, ``"nonlinear term"``, ``"cluster mean"``, ``"random slope"``,
        ``"cluster effects"``, ``"residual variances"`` (one for each cluster); ``"nonlinear in itself"``: the analysis
        is not linear in the imputed covariate; ``"in part"``: the model has what products imply for its mean, and lacks
        what they imply for its variance.
    term
        The term of the analysis.
    variable
        Whose model lacks it.
    lacks
        What that model lacks, as a formula spells it.
    message
        A sentence.
    call
        The call that mends it; None where there is none.
    how
        How well the call mends it: ``"approximately"``, ``"only in part"`` (compatible in the mean alone), or "" for a
        model that contains the term.
    other_group
        Whether it is about a grouping factor other than the clusters of the model, which no call adds.
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
        """Of what a model should contain; approximate: it does, and is still not exactly compatible."""
        if approximate:
            whole = f"{_slope_of(need)}{need.term}"
            if need.role == "closely":
                message = (
                    f"the model of '{variable}' has what {whole} implies, and is compatible approximately"
                )
                return cls("approximate", need.term, variable, lacks, message)
            message = (
                f"the model of '{variable}' has the products that {whole} implies, but a variance that does not change "
                "with them, so that much of the bias stays"
            )
            return cls("in part", need.term, variable, lacks, message)
        text = sentence(variable, need, lacks)
        how = ("approximately" if need.role == "closely" else "only in part") if need.approximate else ""
        return cls(
            need.kind, need.term, variable, lacks, text, how=how, other_group=need.role == "other group"
        )


def sentence(variable: str, need: Need, lacks: str) -> str:
    """What the model of a variable lacks."""
    if need.kind == "nonlinear in itself":
        return (
            f"{need.term} is not linear in '{variable}', and no model of FCS or JointNormal that imputes '{variable}' is "
            "compatible with that"
        )
    if need.kind == "residual variances":
        return (
            f"the model of '{variable}' has one residual variance for all clusters, and the random slope of {need.term} "
            "implies one for each"
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
            ", a grouping factor other than its clusters (a column of it as text or category makes its levels "
            "predictors; or impute with it as the cluster)"
        )
    why = {
        "implied": f", which {_slope_of(need)}{need.term} implies",
        "closely": f", which {_slope_of(need)}{need.term} implies",
        "covariate": "" if need.kind == "variable" else ", on which the response depends as well",
    }.get(need.role, "")
    return f"the model of '{variable}' {what}{why}"


def _slope_of(need: Need) -> str:
    return "the random slope of " if need.random else ""


@dataclass(frozen=True)
class Verdict:
    """How an analysis and an imputation model compare.

    Attributes
    ----------
    gaps
        What the model lacks; the analysis is congenial if there are none.
    approximate
        Where the model has what it can have, and is still compatible only approximately.
    unknown, whole
        Variables of whose models nothing is known; whether that is so of the whole model.
    call
        The call that mends all gaps that a call can mend.
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
        """With the calls: of the same engine where it mends, else of the one that takes the analysis as a factor."""
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
            f"{self.analysis!r} contains what the imputation model lacks. The imputed rows are drawn without it, which "
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
        """One event a gap; the count is that of the imputed cells."""
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
    """The call of the engine that takes the analysis as a factor of its model; None for analyses that it does not take.

    It mends every gap, those that are nonlinear in an imputed covariate included.
    """
    cluster = model.data.cluster
    grouped = not analysis.random or (analysis.single_grouping and analysis.cluster == cluster)
    derived = not set(model.definitions()).isdisjoint(analysis.columns)
    if offset is not None or not grouped or analysis.independent or analysis.stateful or derived:
        return None
    return f"bi.JointGLMM(data, {analysis.text!r})"


def _call(model: ImputationModel, gaps: Sequence[Gap]) -> str | None:
    """The call that makes the same model with what the gaps name."""
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
