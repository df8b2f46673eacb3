"""`Block`: one conditional model in the chained-equations loop, which draws its parameters and missing values.

A block is created once per model and serves all chains: the state of a chain is in its `Chain`, and what the block
keeps from cycle to cycle is in the chain's `Parameters`. Everything except `init` and `step` has a default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.table import ChainedTable
from bayesimp.methods.base import Method
from bayesimp.priors import CovariancePrior, default, resolve
from bayesimp.scale.coefficients import log_normal

if TYPE_CHECKING:
    from bayesimp.fcs.blocks.joint_rows import JointRows
    from bayesimp.fcs.blocks.rows import BlockRows
    from bayesimp.fcs.scale import ChainedBlock
    from bayesimp.kernels.chained.visit import Visit

__all__ = [
    "ADVICE",
    "BEYOND",
    "FREE",
    "KEPT",
    "LASTING",
    "Block",
    "Chain",
    "Parameters",
    "ShiftedRows",
    "held_coefficients",
    "log_priors",
    "summed",
    "without_limits",
]

Array = NDArray[np.float64]
KEPT = "beta", "Sigma", "Psi"  # stored parameters of a block, on the working scale
BEYOND = 1 << 28  # code bit of a visit that kept values because nothing could be drawn in their rows
LASTING = 10  # the run ends after this many successive visits in which nothing could be drawn
FREE = "free:"  # prefix in `Parameters.own` of what results show: shapes, cutpoints, variables of a user-defined model
ADVICE = (
    "Often two predictors have become (nearly) equal in the completed data, or the variable is (nearly) a combination "
    "of others. Leave one of them out of its formula, or give beta a normal prior."
)


def _none() -> Array:
    return np.zeros(0)


@dataclass
class Parameters:
    """State of a block in one chain, on the working scale; parameters that its model lacks are arrays of size 0.

    Attributes
    ----------
    beta
        (p*, r) fixed effects.
    Sigma
        (1, r, r) residual covariance matrix, or (m, r, r), one per cluster.
    Psi
        (r q, r q) covariance matrix of the random effects.
    B
        (m, q, r) random effects.
    own
        Anything else that the block keeps from cycle to cycle; results include names that begin with `FREE`.
    """

    beta: Array = field(default_factory=_none)
    Sigma: Array = field(default_factory=_none)
    Psi: Array = field(default_factory=_none)
    B: Array = field(default_factory=_none)
    own: dict[str, np.ndarray] = field(default_factory=dict)

    def kept(self) -> dict[str, np.ndarray]:
        """The parameters that are stored for every cycle."""
        normal = {name: getattr(self, name) for name in KEPT}
        return {name: x for name, x in normal.items() if x.size} | {
            name: x for name, x in self.own.items() if name.startswith(FREE)
        }


@dataclass
class Chain:
    """One imputation in progress: the current completed values of incomplete rows, V (R, d - p), and parameters by block.

    events: how often each (block, code) occurred. failing: block name -> number of latest successive visits in which
    the block could not draw.
    """

    rng: np.random.Generator
    V: Array
    theta: list[Parameters]
    cycles: int = 0
    events: dict[tuple[int, int], int] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)

    def record(self, block: int, code: int, count: int = 1) -> None:
        """Count an event; `Block.words` has its message."""
        self.events[block, code] = self.events.get((block, code), 0) + count

    def note(self, block: int, code: int, words: Mapping[int, tuple[str, str]]) -> None:
        """Count the bits of a code that ``words`` has, or a negative code itself."""
        for each in [code] if code < 0 else [bit for bit in words if bit > 0 and code & bit]:
            self.record(block, each)

    def passing(self, block: str, failed: bool) -> bool:
        """Whether the run may continue after a visit to a block, failed or not; called once per visit."""
        self.failing[block] = self.failing.get(block, 0) + 1 if failed else 0
        return self.failing[block] < LASTING


def summed(thetas: list[Parameters], name: str) -> np.ndarray:
    """The sum over imputations of one of a block's own counts."""
    return np.sum([theta.own[name] for theta in thetas], axis=0)


def held_coefficients(model: ConditionalModel, thetas: list[Parameters]) -> list[Event]:
    """Events for coefficients that the completed data did not determine; `own["held"]` (r p*,) counts these updates."""
    counts = summed(thetas, "held").reshape(len(model.responses), -1).max(axis=0)
    return [
        Event(
            "coefficient held",
            f"{model.name} ~ {column.name}",
            f"'{column.name}' was a combination of the other completed predictors in the rows where "
            f"'{model.name}' is observed. Its coefficient kept its value (initially 0) while the others were drawn "
            "given it. Leave it out of the formula, or give beta a normal prior.",
            int(count),
        )
        for column, count in zip(model.fixed, counts, strict=True)
        if count
    ]


def without_limits(chained: ChainedBlock) -> str:
    """Why observed cells are not all of the likelihood, if values lie beyond limits."""
    censored = chained.block.distribution.is_censored
    return "values beyond limits are part of its likelihood, which is not computed" if censored else ""


def log_priors(block: Any, theta: Parameters) -> dict[str, float]:
    """Log prior densities of beta, sigma2 and Psi in the units of the data (`CovariancePrior.log_density`).

    A block of several variables has Sigma instead of sigma2.
    block: a `Block` whose method has priors, with Q0 and t0, the precision and precision times mean of vec(beta_w).
    """
    scale, name, (Sigma, Psi) = block.chained.scale, block.chained.block.name, block.stated_priors
    out = {"beta": float(log_normal(theta.beta, block.Q0, block.t0, scale.T, scale.s))}
    if theta.Sigma.size:
        symbol = "Sigma" if theta.Sigma.shape[-1] > 1 else "sigma2"
        out[symbol] = float(Sigma.log_density(scale.Sigma(theta.Sigma[0]), f"Sigma of '{name}'"))
    if theta.Psi.size:
        out["Psi"] = float(Psi.log_density(scale.Psi(theta.Psi), f"Psi of '{name}'"))
    return out


class Block(ABC):
    """The sampler of one conditional model.

    Attributes
    ----------
    table, chained, method
        The table in the form that the loop uses, the conditional model in it, and its method.
    words
        Kind and message for each bit that `step` may return, and for its negative codes.
    heavy
        Whether `step` is mostly compiled code, during which another thread may run.
    advice
        What to do, at the end of the message of a `SamplingError`.
    visit
        Arrays that replace `step` in the kernel that runs whole cycles (kernels/chained/visit.py); None: call `step`.
    adapts
        Whether `adapt` tunes the block before the chains start.
    holds
        Negative codes after which nothing has changed. The visit is then skipped, with an event, because it may succeed
        given other values of other variables; after `LASTING` successive failures the run ends.
    drawn
        (R,) bool for a cluster-level variable: incomplete rows whose value is drawn rather than known from other rows
        of their cluster. None: all incomplete rows.
    """

    words: Mapping[int, tuple[str, str]] = {}
    heavy: bool = False
    advice: str = ADVICE
    visit: Visit | None = None
    adapts: bool = False
    holds: frozenset[int] = frozenset()
    drawn: NDArray[np.bool_] | None = None
    method: Method
    no_likelihood: str = "its likelihood is not computed"  # why `predictors` refuses; empty if it does not
    no_prior: str = "it has no prior"  # the same of `log_prior`
    no_effects: str = ""  # why `effects` refuses, of a model with random effects
    no_new_clusters: str = ""  # why `new_effects` refuses
    has_own_density: bool = False  # rows have `log_densities` and `replicates` instead of `predictors`

    def __init__(self, table: ChainedTable, number: int) -> None:
        self.table, self.chained = table, table.blocks[number]
        self.method = self.chained.block.method

    @abstractmethod
    def init(self, chain: Chain) -> Parameters:
        """Initial parameters of a chain, whose missing values are already filled in."""

    @abstractmethod
    def step(self, chain: Chain, theta: Parameters) -> int:
        """Update the parameters and fill in the missing responses in ``chain.V``.

        Returns
        -------
        0, or a sum of bits for unusual events (`words`); a negative code ends the run with `SamplingError`.
        """

    @property
    def fitted_rows(self) -> BlockRows:
        """The rows of `predictors`."""
        raise NotImplementedError

    @property
    def joint_rows(self) -> JointRows | None:
        """The rows of a block of several normal variables, to be used instead of `predictors`."""
        return None

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, Array, Array | None]:
        """The rows of the block, and linear predictors (n, r) where its response is observed, in a state after `step`.

        The last is the residual standard deviation (n,) of a normal variable, on the scale of `BlockRows.y`; None for
        other families. Only if `no_likelihood` is empty.
        """
        raise NotImplementedError

    def log_densities(self, chain: Chain, theta: Parameters) -> Array:
        """(n,) log densities of the observed responses in the units of the data, in a state after `step`."""
        raise NotImplementedError

    def replicates(self, rng: np.random.Generator, chain: Chain, theta: Parameters) -> Array:
        """(n,) responses drawn in the rows of `log_densities`, in the units of `BlockRows.y`."""
        raise NotImplementedError

    def effects(self, theta: Parameters) -> Array:
        """(m, q, r) random effects on the working scale; only if `no_effects` is empty."""
        return theta.B

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """The same parameters with the effects of new clusters, drawn from their distribution."""
        m, q, r = theta.B.shape
        if not theta.Psi.size or not q:
            return theta
        drawn = rng.standard_normal((m, r * q)) @ np.linalg.cholesky(theta.Psi).T
        return replace(theta, B=np.ascontiguousarray(drawn.reshape(m, r, q).transpose(0, 2, 1)))

    @cached_property
    def stated_priors(self) -> tuple[CovariancePrior, CovariancePrior]:
        """Priors of Sigma and Psi in the units of the data, of a method that has priors."""
        scale, name = self.chained.scale, self.chained.block.name
        priors = default() if self.method.priors is None else self.method.priors
        return resolve(priors.Sigma, scale.s, f"Sigma of '{name}'"), scale.Psi_prior(
            priors.Psi, f"Psi of '{name}'"
        )

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Log prior densities of parameters in the units of the data, by symbol; only if `no_prior` is empty."""
        raise NotImplementedError

    def visited(self, chain: Chain, code: int) -> bool:
        """Whether the run continues after the code of a step; called once per visit.

        Values that were never drawn need not respect bounds, so blocks with bounds may not be skipped.
        """
        if code & BEYOND and code > 0:  # counted in `GeneralisedBlock.draw`
            return True
        failed = code < 0
        passing = chain.passing(self.chained.block.name, failed)
        return not failed or (passing and code in self.holds and not self.chained.arrays.lower.size)

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Set the shift, which `step` adds after drawing parameters and before filling in values.

        moved: response of the block -> shift in each row of the table, (N, r) (`Shift.rows`); only shifted responses.

        Raises
        ------
        SpecificationError
            `moved` is not empty, but the block does not support shifts.
        """
        for name in moved:
            raise SpecificationError(
                f"'{name}': method '{self.method.name}' does not take a shift; use another method for it."
            )

    def adapt(self, chain: Chain) -> None:
        """Tune on a separate chain that is then discarded (`loop.adapt_all`); called if ``adapts`` is true."""
        return None

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Events about all chains, at the end of a run."""
        return []


class ShiftedRows(Block):
    """Base of blocks that draw the missing values of one variable row by row and can add a shift to them.

    `fcs.specification.shifted.checked_shift` refuses shifts of variables that are not normal.
    """

    block_rows: BlockRows
    shift: np.ndarray | float = 0.0  # added to imputed values (R,), on the working scale

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Set the shift of the imputed values."""
        for numbers in moved.values():
            rows = self.table.row[self.block_rows.holes]
            self.shift = numbers[rows, 0] / float(self.table.scale[self.chained.columns[0]])
