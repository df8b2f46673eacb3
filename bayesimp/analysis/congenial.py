"""Whether imputations suit an analysis: what the analysis contains and the imputation model lacks.

Take an analysis g(E y) = terms + (z | cluster) of a table in which some variables were imputed. With a the part of its
linear predictor without the incomplete covariate x, and c x the part with it (c is 1, or what x is multiplied by),

    p(y | x, ...)          the model of an incomplete y must contain every term, every random slope, the clusters
    p(x | y, ...)          is proportional to p(y | x, ...) p(x | ...), whose exponent contains c (y - a) x: the model of
                           an incomplete x must contain c y and the terms of a; a random slope of x needs one of y, and
                           one of z needs one of z

If c is not constant, the variance of x varies too, so a model with the products c y is compatible in its mean only: it
is called approximate. If the analysis is not linear in x, no conditional model of x that is linear in y is compatible.
The rules are in docs/mathematics.md, "Congenial analyses". `contract.Contents` says what a model contains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bayesimp.analysis.gaps import Gap, Need, Verdict
from bayesimp.analysis.observed import Observed
from bayesimp.contract import Contents, ImputationModel
from bayesimp.formulas.formula import Formula, RandomTerm, has_intercept, parse, signed
from bayesimp.formulas.span import (
    CONSTANT,
    Atom,
    Monomial,
    Polynomial,
    Reader,
    contains,
    lacking,
    spelled,
    terms,
    times,
    written,
)
from bayesimp.formulas.syntax import Name, column_names, read, write

__all__ = ["congeniality"]


def congeniality(
    model: ImputationModel,
    analysis: Formula,
    imputed: Collection[str] | None = None,
    table: Any = None,
    offset: str | None = None,
) -> Verdict:
    """Compare an analysis with the models of the imputed variables: which of its terms do they lack?

    Parameters
    ----------
    model
        The imputation model.
    analysis
        A formula with one response.
    imputed
        Variables with imputed cells; None: those of the model that have missing cells.
    table
        A completed table, in which columns that are linear combinations of others are recognised; None: the rows of the
        incomplete table that are complete in these columns.
    offset
        Column with a known part of the linear predictor, a term with coefficient 1.
    """
    contents = model.contents()
    if contents is None:
        return Verdict(analysis.text, unknown=tuple(imputed or ()), whole=True)
    if imputed is None:
        imputed = [name for name in model.responses if model.data.missing(name).any()]
    question = _Question(model, analysis, offset, Observed(model, analysis, table))
    found: list[Gap] = []
    unknown = []
    concerned = [n for n in imputed if n not in model.definitions() and n in question.names]
    response = analysis.responses[0]
    if concerned and response in contents and contents[response].is_factor:
        concerned = [response]  # its factor is part of the conditional distribution of each of its variables
    for name in concerned:
        if name not in contents:
            unknown.append(name)
        else:
            found += [gap for gap in question.gaps_of(name, contents[name]) if not _later(gap, contents)]
    return Verdict.of(model, analysis, found, tuple(unknown), offset)


def _later(gap: Gap, contents: Mapping[str, Contents]) -> bool:
    """Whether a variable that a factor lacks has its own factor containing the first, which relates the two there."""
    other = contents.get(gap.term)
    if gap.kind != "variable" or other is None or not other.is_factor:
        return False
    return gap.variable in parse(other.formula).variables


@dataclass
class _Question:
    """An analysis, parsed once for all variables."""

    model: ImputationModel
    analysis: Formula
    offset: str | None
    observed: Observed

    def __post_init__(self) -> None:
        linear = self.observed.linear
        definitions = self.model.definitions()
        self.reader = Reader(definitions, linear)
        self.inner = Reader(definitions, linear, by_cluster=True)
        self.response = self.reader.variable(self.analysis.responses[0])
        self.fixed, by_cluster = [], []
        for term in terms(self.analysis.fixed):
            rest = tuple(atom for atom in term if set(column_names(atom)) != {self.model.data.cluster})
            if rest == term:
                self.fixed.append((written(term), self.reader.columns(term)))
            else:  # a fixed effect of each cluster
                right = f"0 + {written(rest)}" if rest else "1"
                by_cluster.append(RandomTerm(right, write(Name(self.model.data.cluster))))
        if self.offset is not None:
            self.fixed.append((write(Name(self.offset)), [self.reader.variable(self.offset)]))
        self.random = [
            (random, [(written(term), self.inner.columns(term)) for term in terms(random.columns)])
            for random in (*self.analysis.random, *by_cluster)
        ]
        columns = [self.response, *(c for _, each in self.fixed for c in each)]
        columns += [c for _, part in self.random for _, each in part for c in each]
        self.names = frozenset().union(*(_names(column) for column in columns))

    def gaps_of(self, name: str, contents: Contents) -> list[Gap]:
        """What the model of one variable lacks."""
        formula = parse(contents.formula)
        span = self.reader.part(formula.fixed)
        of_clusters = [term for term in formula.random if term.names == (self.model.data.cluster,)]
        slopes = self.inner.part((of_clusters or formula.random)[0].columns) if formula.random else [CONSTANT]
        is_response = name in _names(self.response)
        needs = self._of_response(name) if is_response else self._of_covariate(name)
        needs += [] if contents.clusters == "of clusters" else self._of_random(name, is_response, contents)
        gaps = []
        for need in needs:
            if need.kind:
                gaps.append(Gap.of(name, need, need.text))
                continue
            lacks = self._lacking(need, slopes if need.random else span, contents)
            if not lacks:
                gaps += [Gap.of(name, need, need.term, approximate=True)] if need.approximate else []
            elif not (not need.random and self.observed.combination(contents, [spelled(m) for m in lacks])):
                gaps += [Gap.of(name, replace(need, kind=_kind(m, need)), need.spelled(m)) for m in lacks]
        lacking_terms = {gap.term for gap in gaps if gap.kind not in ("approximate", "in part")}
        gaps = [g for g in gaps if g.kind not in ("approximate", "in part") or g.term not in lacking_terms]
        return list({(gap.kind, gap.lacks): gap for gap in gaps}.values())

    def _lacking(self, need: Need, span: Sequence[Polynomial], contents: Contents) -> list[Monomial]:
        columns = need.columns
        if contents.clusters == "of clusters":  # variables that vary within clusters enter as their means
            columns = [self.reader.mean(column) for column in columns if not contains(span, column)]
        lacks = lacking(span, columns)
        return [m for m in lacks if not _in_some_form(m, span)] if need.any_form else lacks

    def _of_response(self, name: str) -> list[Need]:
        """p(y | x, ...) needs the terms of the analysis, except those that contain the variable itself."""
        return [
            Need(text, columns, "the response")
            for text, columns in self.fixed
            if not any(name in _names(column) for column in columns)
        ]

    def _of_covariate(self, name: str) -> list[Need]:
        """p(x | y, ...) needs c y for each product c x of the analysis, and the other terms of the analysis."""
        response = write(Name(self.analysis.responses[0]))
        needs = [Need(response, [self.response], "the response", any_form=True)]
        nonlinear = []
        for text, columns in self.fixed:
            with_it = [c for c in columns if name in _names(c)]
            if not with_it:
                plain = all(_is_variable(c) for c in columns)
                needs.append(Need(text, columns, "covariate", any_form=plain))
                continue
            for column in with_it:
                factors = [_factor(m, name) for m in column if any(name in a.names for a in m)]
                if any(factor is None for factor in factors):
                    nonlinear.append(text)
                    continue
                needs += [n for factor in factors if factor for n in self._implied(name, text, factor)]
        needs += [
            Need(text, [], "itself", kind="nonlinear in itself", text=text)
            for text in dict.fromkeys(nonlinear)
        ]
        return needs

    def _implied(self, name: str, text: str, factor: tuple[Monomial, bool]) -> list[Need]:
        """What a term c x implies: c y, or its cluster mean, and the product c c; nothing if c is 1.

        A variable with levels is then closely compatible, because c (y - a) x - c c x / 2 is linear in x. A normal one
        would need the variance 1 / (c c / sigma^2 + 1 / tau^2), which changes with c.
        """
        rest, in_mean = factor
        if not rest and not in_mean:
            return []
        product: Polynomial = times({rest: 1.0}, self.response)
        inner = self._by_response(rest)
        if in_mean:
            spelling = f"cluster_mean({' * '.join(inner.split(':'))})"
            return [Need(text, [self.reader.mean(product)], "implied", text=spelling, approximate=bool(rest))]
        role = "closely" if name in self.observed.linear else "implied"
        square = self.reader.times({rest: 1.0}, {rest: 1.0})
        (squared,) = square
        return [
            Need(text, [product], role, text=inner, approximate=True),
            Need(text, [square], role, text=spelled(squared)),
        ]

    def _by_response(self, rest: Monomial) -> str:
        """The product of the response and what a covariate is multiplied by, as written in a formula."""
        response = write(Name(self.analysis.responses[0]))
        return f"{response}:{spelled(rest)}" if rest else response

    def _of_random(self, name: str, is_response: bool, contents: Contents) -> list[Need]:
        """Needs due to cluster effects and random slopes."""
        needs = []
        for random, part in self.random:
            if not self.observed.is_cluster(random):
                needs += self._of_other_group(name, random, part, contents)
                continue
            if has_intercept(signed(read(random.columns))) and contents.clusters == "ignored":
                needs.append(Need(random.label, [], "group", kind="cluster effects", text=random.group))
            for text, columns in part:
                needs += list(self._slope(name, text, columns, is_response, contents))
        return needs

    def _of_other_group(
        self, name: str, random: RandomTerm, part: list[tuple[str, list[Polynomial]]], contents: Contents
    ) -> list[Need]:
        """Needs due to another grouping factor: random effects, or its levels among the predictors."""
        if self.observed.is_factor_of(random, contents):
            return []
        own = [term for term in parse(contents.formula).random if term.names == random.names]
        if not own:
            return [Need(random.label, [], "other group", kind="cluster effects", text=random.group)]
        slopes = [column for term in own for column in self.inner.part(term.columns)]
        return [
            Need(text, [], "other group", kind="random slope", text=f"{text} by {random.label}")
            for text, columns in part
            if not any(name in _names(column) for column in columns) and lacking(slopes, columns)
        ]

    def _slope(
        self, name: str, text: str, columns: list[Polynomial], is_response: bool, contents: Contents
    ) -> Iterator[Need]:
        """Random slopes implied by (z | cluster): z in the model of y; in that of x also z, with y in place of x.

        If z contains x, the precision of a normal x differs between clusters, as its relation to y does.
        """
        for column in columns:
            if name not in _names(column):
                yield Need(text, [column], "the response" if is_response else "covariate", random=True)
                continue
            if is_response:
                continue
            for monomial in (m for m in column if any(name in a.names for a in m)):
                factor = _factor(monomial, name)
                if factor is None:
                    yield Need(text, [], "itself", kind="nonlinear in itself", text=text)
                else:
                    implied = times({factor[0]: 1.0}, self.response)
                    spelling = self._by_response(factor[0])
                    yield Need(text, [implied], "closely", random=True, text=spelling, approximate=True)
                    if contents.is_normal and not contents.own_variances:
                        yield Need(text, [], "group", kind="residual variances", text="residual variances")


def _names(column: Polynomial) -> frozenset[str]:
    return frozenset().union(*(atom.names for monomial in column for atom in monomial))


def _is_variable(column: Polynomial) -> bool:
    """Whether a column is one variable, up to its unit and origin."""
    return [len(m) == 1 and m[0].kind == "variable" for m in column if m] == [True]


def _factor(monomial: Monomial, name: str) -> tuple[Monomial, bool] | None:
    """The factor c of c x, and whether x is inside a cluster mean; None if the product is not linear in x."""
    own = [atom for atom in monomial if name in atom.names]
    if len(own) != 1:
        return None
    (atom,) = own
    rest = tuple(other for other in monomial if other != atom)
    if atom.kind == "variable":
        return rest, False
    plain = write(Name(name))
    inner = atom.text.removeprefix("cluster_mean(").removesuffix(")").split(" * ")
    if atom.kind != "mean" or inner.count(plain) != 1:
        return None
    others = atom.names - {name}
    if len(others) != len(inner) - 1 or {write(Name(o)) for o in others} | {plain} != set(inner):
        return None
    inside = tuple(Atom(write(Name(o)), frozenset({o}), "variable") for o in others)
    return tuple(sorted((*rest, *inside))), True


def _in_some_form(monomial: Monomial, span: Sequence[Polynomial]) -> bool:
    """Whether the columns contain a variable through a function of it alone, such as log1p(x) for x."""
    wanted = frozenset().union(*(atom.names for atom in monomial))
    return any(_names(column) == wanted for column in span)


def _kind(monomial: Monomial, need: Need) -> str:
    if need.random:
        return "random slope"
    if len(set(monomial)) > 1:
        return "interaction"
    return {"variable": "variable" if len(monomial) == 1 else "nonlinear term", "mean": "cluster mean"}.get(
        monomial[0].kind, "nonlinear term"
    )
