"""Names of methods: the package's own, and those of R mice, miceadds and micemd; the table of methods."""

from __future__ import annotations

from collections.abc import Callable

from bayesimp.errors import SpecificationError
from bayesimp.families.registry import FAMILIES
from bayesimp.messages import did_you_mean
from bayesimp.methods.base import OPTIONS, Method, all_families, censored_families
from bayesimp.methods.cluster_level import ClusterLevel
from bayesimp.methods.gibbs import IW, Bayes, Gibbs
from bayesimp.methods.heckman import Heckman
from bayesimp.methods.ml import ML
from bayesimp.methods.mlmi import MLMI
from bayesimp.methods.pymc import PyMC
from bayesimp.methods.single_level import PMM, Norm, SingleLevel
from bayesimp.methods.stratified import Stratified
from bayesimp.methods.two_stage import TwoStage
from bayesimp.priors import Priors, jomo, presets

__all__ = ["LATER", "METHODS", "NAMES", "ignores_clusters", "markdown", "read", "table", "with_priors"]

METHODS: tuple[type[Method], ...] = (
    Gibbs, ML, PyMC, Heckman, MLMI, TwoStage, Stratified, ClusterLevel, Norm, SingleLevel, PMM,
)  # fmt: skip
NAMES: dict[str, Callable[[], Method]] = {
    "bayes": Bayes, "iw": IW, "ml": ML, "pymc": PyMC, "heckman": Heckman, "norm": Norm, "pmm": PMM,
    "bayes-c": lambda: Bayes(compatible=True), "iw-c": lambda: IW(compatible=True),
    "ml-c": lambda: ML(compatible=True), "pymc-c": lambda: PyMC(compatible=True),
    "mlmi": MLMI, "mlmi-published": lambda: MLMI(published=True), "2stage": TwoStage, "twostage": TwoStage,
    "sti": Stratified, "stratified": Stratified, "glm": SingleLevel, "2lonly": ClusterLevel,
    # names of R mice, miceadds and micemd
    "2l.pan": IW, "2l.norm": lambda: Bayes(residual="cluster"), "2l.jomo": lambda: Bayes(jomo()),
    "2l.lmer": ML, "2l.continuous": ML, "2l.glm.norm": ML,
    "logreg": SingleLevel, "polyreg": SingleLevel, "polr": SingleLevel,
    "2l.bin": MLMI, "2l.binary": MLMI, "2l.glm.bin": MLMI, "2l.glm.pois": MLMI, "2l.latentgroup.ord": Bayes,
    "2l.heckman": Heckman, "2l.2stage.norm": TwoStage, "2l.2stage.bin": TwoStage, "2l.2stage.pois": TwoStage,
    "2l.2stage.pmm": lambda: TwoStage(donors=5),
    "2lonly.norm": ClusterLevel, "2lonly.pmm": lambda: ClusterLevel(donors=5),
    "2lonly.mean": ClusterLevel,  # values known from other rows of the cluster are filled in first
}  # fmt: skip
LATER = {
    "uses a bootstrap or discriminant analysis; use 'glm' (ignores the clusters) or 'bayes'": (
        "logreg.boot", "lda",
    ),
    "matches within clusters; use '2l.2stage.pmm' (clusters) or 'pmm' (ignores them)": ("2l.pmm",),
    "is a user-defined function; use derived= to compute columns": ("2lonly.function",),
}  # fmt: skip


def ignores_clusters(method: Method) -> bool:
    """Whether the method's formula may have no random part."""
    return read(method).random != "required"


def read(value: str | Method | Callable[[], Method]) -> Method:
    """The record that a name denotes; a record is returned unchanged, a class becomes a record with its defaults.

    Names: ``"bayes"``, ``"iw"``, ``"ml"``, ``"pymc"``, each also with ``"-c"`` for ``compatible=True``;
    ``"norm"``, ``"pmm"``, ``"glm"``, ``"mlmi"``, ``"mlmi-published"``, ``"2stage"``, ``"sti"``, ``"2lonly"``; names from
    R: ``"2l.pan"`` (iw), ``"2l.norm"`` (bayes, ``residual="cluster"``), ``"2l.lmer"``, ``"2l.continuous"``,
    ``"2l.glm.norm"`` (ml), ``"2l.jomo"`` (bayes with jomo's prior), ``"2l.bin"``, ``"2l.binary"``, ``"2l.glm.bin"``,
    ``"2l.glm.pois"`` (mlmi), ``"2l.2stage.norm"`` and others (2stage), ``"logreg"``, ``"polyreg"``, ``"polr"`` (glm),
    ``"2lonly.norm"``, ``"2lonly.pmm"`` (2lonly).

    Raises
    ------
    SpecificationError
        It is not a method (the message suggests some), or the package does not have it.
    """
    if isinstance(value, Method):
        return value
    if callable(value) and value in (Bayes, IW, *METHODS):  # methods.ML for methods.ML()
        return value()
    if not isinstance(value, str):
        raise SpecificationError(
            f"{value!r} is not a method. Give a name such as 'bayes', or a record such as methods.IW(nu=1.6)."
        )
    name = value.strip().lower()
    if name in NAMES:
        return NAMES[name]()
    for what, names in LATER.items():
        if name in names:
            raise SpecificationError(
                f"Method '{value}' of mice is not available: it {what}. Available methods: {', '.join(NAMES)}."
            )
    raise SpecificationError(
        f"Method {value!r} is not known. {did_you_mean(name, NAMES, most=2)}There are: {', '.join(NAMES)}."
    )


def with_priors(method: Method, priors: Priors) -> Method:
    """The same method with other priors (`Method.with_priors`).

    Raises
    ------
    SpecificationError
        The method has no priors.
    """
    return read(method).with_priors(presets.read(priors))


def table() -> list[dict[str, str]]:
    """What each method of the package does, one row per method, read from its attributes (`Method`).

    Returns
    -------
    Rows with the columns "method" (its name), "what it does", "families", "level", "random effects", "links" and
    "options" of `FCS` that it supports.
    """
    return [_row(method()) for method in METHODS]


def markdown() -> str:
    """`table` as Markdown, for the README."""
    rows = table()
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(method: Method) -> dict[str, str]:
    every, limited = set(all_families()), set(censored_families())
    named = {frozenset(every): "all", frozenset(every - limited): f"all but {', '.join(sorted(limited))}"}
    links = () if method.matches or all(len(FAMILIES[f].links) < 2 for f in method.families) else method.links
    options = [o for o in OPTIONS if o in method.options and (o != "bounds" or method.may_bound)]
    random = {"required": "yes", "optional": "of all that vary within clusters", "none": "no"}[method.random]
    return {
        "method": method.name,
        "what it does": method.summary,
        "families": named.get(frozenset(method.families), ", ".join(method.families)),
        "level": method.level,
        "random effects": random,
        "links": ", ".join(links) or "none",
        "options": ", ".join(options),
    }
