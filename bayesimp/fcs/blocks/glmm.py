"""Blocks of the chained-equations loop for one non-normal variable with a generalised linear mixed model.

    g(E y) = X* beta + Z* b_i,    b_i ~ N(0, Psi)        Jolani 2025, sec. 2.4

The likelihood is not a function of cross products, so rows are needed. A visit builds the rows from the completed table
(fcs/blocks/rows.py), updates the parameters and draws the missing values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import (
    BEYOND,
    FREE,
    Block,
    Chain,
    Parameters,
    log_priors,
    summed,
    without_limits,
)
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.scale import ChainedBlock
from bayesimp.fcs.specification.feedback import driven_by, note
from bayesimp.fcs.specification.records import ConditionalModel
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.rows import linear_predictors
from bayesimp.kernels.draws import truncated_normals
from bayesimp.kernels.families.responses import aux_size, draw_rows, usual_aux
from bayesimp.kernels.glmm.gibbs import (
    FAILURES,
    TALLIES,
    GlmmPrior,
    glmm_start,
    glmm_step,
    new_tallies,
)
from bayesimp.kernels.glmm.merge import merge_rows
from bayesimp.kernels.glmm.rows import GlmmRows
from bayesimp.methods import Gibbs
from bayesimp.priors import CoefficientPrior, CovariancePrior
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update, require_conjugate

__all__ = ["BayesGlmm", "GeneralisedBlock", "acceptance", "family_code", "glmm_beta_prior", "glmm_prior"]

HEAVY_ROWS = 2_000  # observed rows from which a step with one or a few passes over them is heavy
FEW_ACCEPTED = 0.1  # accepted share of steps below which chains hardly move in a hundred cycles


def family_code(block: ConditionalModel) -> int:
    """The kernels' code for a block's family and link."""
    family = block.distribution
    return family.code(family.link(block.method.link))


def glmm_beta_prior(
    prior: CoefficientPrior, scale: Any, block: ConditionalModel, y: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """Q0, t0 as in `beta_prior`; a weak prior of a count's intercept is centred at the log of the count's mean."""
    Q0, t0 = beta_prior(prior, scale, block.predictors, where)
    if prior.follows_mean and block.distribution.has_log_mean_intercept and scale.intercept >= 0:
        t0[scale.intercept] = Q0[scale.intercept, scale.intercept] * np.log(y.mean())
    return Q0, t0


def glmm_prior(chained: ChainedBlock, y: np.ndarray, clusters: int) -> tuple[GlmmPrior, CovariancePrior]:
    """The prior of a block on the working scale, and that of Psi as a record.

    y: observed responses, of which only the mean is used; clusters: in how many there are some.

    Raises
    ------
    SpecificationError
        A prior that is not conditionally conjugate, or with which the posterior is improper.
    """
    block, scale = chained.block, chained.scale
    name, priors = block.name, block.method.priors
    assert priors is not None
    size = block.predictors * len(block.random)
    Psi = scale.working_Psi_prior(scale.Psi_prior(priors.Psi, f"Psi of '{name}'"))
    require_conjugate(name, Psi)
    update = covariance_update(Psi, size)
    check_proper(update, clusters, size, f"Psi of '{name}'", "clusters")
    Q0, t0 = glmm_beta_prior(priors.beta, scale, block, y, f"beta of '{name}'")
    return GlmmPrior(Q0, t0, update), Psi


class GeneralisedBlock(Block):
    """Base of these methods: rows, initial parameters, and draws of missing values from the model."""

    shift: np.ndarray | float = 0.0  # (R, r) added to the linear predictors of imputed values
    words: Mapping[int, tuple[str, str]] = {
        BEYOND: (
            "values held",
            "the log mean (for a proportion, its logit) of some rows was out of range, so nothing could be drawn "
            "there and their values did not change. Take the logarithm of a predictor with a wide range, give "
            "its imputed values bounds=, or leave it out of the formula",
        )
    }

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.rows = self.block_rows(number)
        block = self.chained.block
        self.code, self.r = family_code(block), block.predictors
        self.p, self.q = len(block.fixed), len(block.random)
        self.aux = aux_size(self.code, len(block.levels))
        n = len(self.rows.y)
        self._constants = np.ones(n), np.zeros(n)
        self.heavy = n >= HEAVY_ROWS
        arrays = self.chained.arrays
        self.bounds = (
            None if arrays.lower.size == 0 else (arrays.lower[self.rows.holes], arrays.upper[self.rows.holes])
        )

    @property
    def fitted_rows(self) -> BlockRows:
        """The rows of `predictors`."""
        return self.rows

    def block_rows(self, number: int) -> BlockRows:
        """The rows of the model."""
        return BlockRows(self.table, number)

    def init(self, chain: Chain) -> Parameters:
        """Initial parameters: zero coefficients, effects and Psi; auxiliary parameters as in `usual_aux`."""
        rq = self.r * self.q
        theta = Parameters(
            np.zeros((self.p, self.r)), np.zeros((0, 0, 0)), np.zeros((rq, rq)),
            np.zeros((self.table.clusters, self.q, self.r)),
            {"aux": usual_aux(self.code, len(self.chained.block.levels))},
        )  # fmt: skip
        self._keep_aux(theta)
        return theta

    def _keep_aux(self, theta: Parameters) -> None:
        """Store auxiliary parameters for the results: cutpoints from the second on (the first is 0), or a shape."""
        if not self.aux:
            return
        for auxiliary in self.chained.block.distribution.auxiliaries:
            unit = self.rows.unit if auxiliary.has_unit else 1.0
            theta.own[f"{FREE}{auxiliary.name}"] = np.asarray(auxiliary.from_kernel(theta.own["aux"]) * unit)

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Set the shift: in the units of the data with an identity link, otherwise on the linear predictor."""
        standardised = self.chained.block.distribution.is_standardised
        unit = self.table.scale[self.chained.columns[0]] if standardised else 1.0
        for numbers in moved.values():
            self.shift = numbers[self.table.row[self.rows.holes]] / float(unit)

    @property
    def mean_shift(self) -> np.ndarray | float:
        """The shift of a variable with one linear predictor, (R,) or a number."""
        return self.shift if isinstance(self.shift, float) else self.shift[:, 0]

    def observed(self, V: np.ndarray, f: np.ndarray) -> GlmmRows:
        """The rows where the variable is observed, with predictors completed by `V`."""
        rows = self.rows
        return GlmmRows(self.code, rows.y, rows.trials, *self._constants, *rows.observed(V, f), rows.first)

    def _predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, None]:
        rows = self.rows
        X, Z = rows.observed(chain.V, rows.factors(chain.V))
        return rows, linear_predictors(X, Z, rows.cluster, theta.beta, theta.B), None

    def _log_aux(self, theta: Parameters) -> dict[str, float]:
        """Log prior densities of auxiliary parameters, as in the joint model (families/record.py)."""
        each = self.chained.block.distribution.auxiliaries if self.aux else ()
        return {a.name: float(a.log_prior(theta.own["aux"])) for a in each if a.log_prior is not None}

    def merged(self, V: np.ndarray, f: np.ndarray) -> GlmmRows:
        """`observed`, with rows that differ only in their responses merged (kernels/glmm/merge.py); same likelihood."""
        return merge_rows(self.observed(V, f))

    def fill(self, chain: Chain, theta: Parameters, f: np.ndarray) -> int:
        """Draw the missing values from the model at theta; returns 0 or `BEYOND`."""
        X, Z = self.rows.missing(chain.V, f)
        return self.draw(
            chain, theta, X, linear_predictors(X, Z, self.rows.hole_cluster, theta.beta, theta.B)
        )

    def draw_normal(self, chain: Chain, mean: np.ndarray, sd: np.ndarray | float) -> np.ndarray:
        """Draw missing values (R,) of a normal variable, within bounds if there are any."""
        mean = mean + self.mean_shift
        if self.bounds is None:
            return mean + sd * chain.rng.standard_normal(len(mean))
        drawn = np.empty(len(mean))
        truncated_normals(chain.rng, mean, np.broadcast_to(sd, mean.shape), *self.bounds, drawn)
        return drawn

    def draw(
        self,
        chain: Chain,
        theta: Parameters,
        X: np.ndarray,
        eta: np.ndarray,
        beta: np.ndarray | None = None,
        columns: Iterable[int] | None = None,
    ) -> int:
        """Draw the missing values given their linear predictors eta (R, r).

        If a log mean is out of range the value is kept, because predictors, effects and coefficients may differ in the
        next cycle; after `LASTING` successive visits this is an error.

        The other arguments are for messages: X with these columns of the model (None: all), and coefficients for each
        row (R, p) or all rows (p,) (None: theta.beta).

        Returns
        -------
        0, or `BEYOND` if values were kept.

        Raises
        ------
        SamplingError
            An observed predictor is far from the values to which the model was fitted, or the failure has lasted.
        """
        eta = eta + self.shift
        drawn = np.empty(len(eta))
        draw_rows(chain.rng, self.code, self.rows.hole_trials, eta, theta.own["aux"], drawn)
        there = np.isfinite(drawn)
        if there.all():
            self.rows.put(chain.V, drawn)
            return 0
        beta = theta.beta[:, 0] if beta is None else beta
        columns = list(range(self.p) if columns is None else columns)
        beyond = [int(j) for j in np.flatnonzero(~there)]
        far = [self._extrapolates(chain, j, eta[j, 0], X[j], (X * beta)[j], columns) for j in beyond]
        if any(far) or not chain.passing(self.chained.block.name, True):
            j = beyond[int(np.argmax(far))]
            raise SamplingError(self._out_of_range(j, eta[j, 0], (X * beta)[j], columns))
        self.rows.put(chain.V, drawn, there)
        return BEYOND

    def _extrapolates(
        self, chain: Chain, j: int, eta: float, x: np.ndarray, parts: np.ndarray, columns: list[int]
    ) -> bool:
        """Whether the largest part of an out-of-range log mean comes from an observed value far from the fitted ones.

        Also true if the linear predictor is not finite, which no later cycle can repair.
        """
        if not np.isfinite(eta):
            return True
        sizes = [(abs(part), k) for k, part in enumerate(parts) if columns[k] != self.chained.scale.intercept]
        size, k = max(sizes, default=(0.0, 0))
        if size <= abs(eta - parts.sum()) or self.rows.imputed(
            columns[k], j
        ):  # due to cluster effects, or imputed
            return False
        fitted = self.rows.observed(chain.V, self.rows.factors(chain.V))[0][:, columns[k]]
        return bool(np.abs(x[k] - fitted.mean()) > 2 * np.ptp(fitted))

    def _out_of_range(self, j: int, eta: float, parts: np.ndarray, columns: Iterable[int]) -> str:
        """A message about the row with the largest log mean and the columns that contribute to it."""
        block, table = self.chained.block, self.table
        row = int(table.row[np.flatnonzero(self.rows.holes)[j]])
        # leave out the intercept, which is common to all rows
        sizes = [
            (abs(part), part, block.fixed[t].name)
            for part, t in zip(parts, columns, strict=True)
            if t != self.chained.scale.intercept
        ]
        biggest = f" ('{max(sizes)[2]}' contributes {max(sizes)[1]:+.3g})" if sizes else ""
        by_logs = bool(block.distribution.as_predictor)
        predictor = "log mean" if by_logs else "linear predictor"
        driven = driven_by(block.name, [c.block for c in table.blocks]) if by_logs else []
        if driven:
            family = next(c.block.family for c in table.blocks if driven[0] in c.block.responses)
            why = note(driven[0], family, [block.name], {block.name: block.distribution.as_predictor})
        else:
            why = (
                "Predictors of a log mean act multiplicatively: take the logarithm of one with such a wide range, "
                "bound its imputed values (bounds=), or leave it out of the formula. In a cluster without observed "
                "values, heavy tails of Psi alone can cause this if few clusters inform it: use a tighter prior"
            )
        return (
            f"'{block.name}' ({block.family}): the {predictor} is {eta:.3g} in row {row} of the table{biggest}, so no "
            f"value can be drawn from it. {why}."
        )


class BayesGlmm(GeneralisedBlock):
    """Posterior draws by Metropolis within Gibbs (`methods.Bayes`; kernels/glmm/gibbs.py)."""

    words = {**{-code: ("failed", message) for code, message in FAILURES.items()}, **GeneralisedBlock.words}
    method: Gibbs
    no_prior = ""

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why there is none; empty without limits."""
        return without_limits(self.chained)

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Linear predictors (n, r)."""
        return self._predictors(chain, theta)

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of beta, Psi and auxiliary parameters."""
        return log_priors(self, theta) | self._log_aux(theta)

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        seen = int((np.diff(self.rows.first) > 0).sum())
        self.prior, self.Psi = glmm_prior(self.chained, self.rows.y, seen)
        Q0, t0 = self.prior.Q0, self.prior.t0
        self.updates = self.method.inner
        self.Q0, self.t0 = Q0, t0
        self.heavy = True

    def init(self, chain: Chain) -> Parameters:
        """A dispersed start (`glmm_start`), with tallies of Metropolis steps."""
        theta = super().init(chain)
        Psi = self.Psi.known_value
        theta.Psi = theta.Psi if Psi is None else Psi
        theta.own["tallies"] = new_tallies()
        rows = self.merged(chain.V, self.rows.factors(chain.V))
        code = glmm_start(chain.rng, rows, self.prior, theta.beta, theta.own["aux"], theta.Psi, theta.B)
        if code:
            raise SamplingError(f"'{self.chained.block.name}', at the start: {FAILURES[code]}.")
        self._keep_aux(theta)
        return theta

    def step(self, chain: Chain, theta: Parameters) -> int:
        """One transition of all parameters, then draws of the missing values."""
        f = self.rows.factors(chain.V)
        own = theta.own
        code = glmm_step(
            chain.rng, self.merged(chain.V, f), self.updates, self.prior,
            theta.beta, own["aux"], theta.Psi, theta.B, own["tallies"],
        )  # fmt: skip
        if code:
            return -code
        self._keep_aux(theta)
        return self.fill(chain, theta, f)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Acceptance rates of the Metropolis steps, and steps that hardly moved."""
        return acceptance(self.chained.block.name, summed(thetas, "tallies"))


def acceptance(name: str, tallies: np.ndarray) -> list[Event]:
    """Events about the Metropolis steps of a variable; tallies (5, 2), summed over imputations."""
    tally = dict(zip(TALLIES, tallies, strict=True))
    shares = [
        f"{tally[kind][1] / tally[kind][0]:.0%} of {kind}"
        for kind in ("cluster effects", "fixed effects", "scales of effects")
        if tally[kind][0]
    ]
    events = [Event("acceptance", name, f"accepted by Metropolis steps: {', '.join(shares)}", 1)]
    stuck = [kind for kind, (tried, accepted) in tally.items()
             if kind in ("cluster effects", "fixed effects") and accepted < FEW_ACCEPTED * tried]  # fmt: skip
    if stuck:
        text = (
            f"fewer than {FEW_ACCEPTED:.0%} of the steps of {' and '.join(stuck)} were accepted, so they hardly "
            "moved; see summary(). Merge levels, leave out predictors, or run many more cycles"
        )
        events.append(Event("slow mixing", name, text, 1))
    sought, found = tally["modes"]
    if found < sought:
        text = "searches for a mode did not converge; proposals from their last points are valid but rarely accepted"
        events.append(Event("mode not found", name, text, int(sought - found)))
    return events
