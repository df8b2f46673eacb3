"""Blocks for one or several normal variables, based on cross products (kernels/chained/moments.py)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import Block, Chain, Parameters, held_coefficients, log_priors, without_limits
from bayesimp.fcs.blocks.joint_rows import JointRows
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.kernels.chained.fill import fill, predict
from bayesimp.kernels.chained.gibbs import VariancesPrior, cluster_step, common_step
from bayesimp.kernels.chained.moments import block_moments, cluster_factors
from bayesimp.kernels.chained.regression import draw_regression, match
from bayesimp.kernels.chained.rows import linear_predictors
from bayesimp.kernels.chained.visit import Visit, gibbs_step, joint_step
from bayesimp.kernels.normal.effects import Moments
from bayesimp.methods import PMM, Gibbs
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update, require_conjugate

__all__ = ["GibbsBlock", "MatchingBlock", "MaximumLikelihoodBlock", "NormalBlock", "RegressionBlock"]

FATAL = {
    -1: ("failed", "the residual variance is no longer positive"),
    -2: ("failed", "the precision of a cluster's effects is not positive definite"),
    -3: ("failed", "the fixed effects are not identified"),
    -4: ("failed", "Psi lost its positive definiteness"),
}


class NormalBlock(Block):
    """Base of these methods: initial parameters, and draws of missing values from the normal model."""

    words: Mapping[int, tuple[str, str]] = FATAL
    shift: np.ndarray | None = None  # (R, r) added to imputed values of incomplete rows, on the working scale

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.chained_number = number
        self.sizes = tuple(int(n) for n in self.chained.arrays.sizes[:3])

    def init(self, chain: Chain) -> Parameters:
        """Initial parameters: log-normal standard deviations on the working scale, without correlations."""
        p, q, r = self.sizes
        rng = chain.rng
        Sigma = np.diag(np.exp(rng.normal(-0.5, 0.5, r)))[None]
        Psi = np.diag(np.exp(rng.normal(-1.5, 1.0, r * q)))
        return Parameters(np.zeros((p, r)), Sigma, Psi, np.zeros((self.table.clusters, q, r)))

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Set the shift, given in the units of the data."""
        if not moved:
            return
        names, rows = self.chained.block.responses, self.table.row
        none = np.zeros(len(rows))
        numbers = [moved[name][rows, 0] if name in moved else none for name in names]
        self.shift = np.column_stack(numbers) / self._units

    @property
    def _units(self) -> np.ndarray:
        """The unit of the working scale of each response, (r,), in the units of the data."""
        return self.table.scale[list(self.chained.columns)]

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why rows have none."""
        return without_limits(self.chained)

    @cached_property
    def fitted_rows(self) -> BlockRows:  # type: ignore[override]
        """The rows with the response, of blocks of one variable."""
        return BlockRows(self.table, self.chained_number)

    @cached_property
    def joint_rows(self) -> JointRows | None:  # type: ignore[override]
        """The rows with a response, of blocks of several variables."""
        return JointRows(self.table, self.chained_number) if self.sizes[2] > 1 else None

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, np.ndarray, np.ndarray | None]:
        """Means (n, 1) on the working scale, and residual standard deviations (n,)."""
        rows = self.fitted_rows
        X, Z = rows.observed(chain.V, rows.factors(chain.V))
        mean = linear_predictors(X, Z, rows.cluster, theta.beta, theta.B) - self.chained.terms.offset[-1]
        sd = np.sqrt(theta.Sigma[:, 0, 0])
        return rows, mean, sd[rows.cluster] if len(sd) > 1 else np.repeat(sd, len(mean))

    def moments(self, chain: Chain) -> tuple[np.ndarray, Moments]:
        """Factors of the columns in each cluster, and moments of the rows where the responses are observed."""
        c = self.chained
        f = cluster_factors(self.table.cells, c.terms, chain.V)
        return f, block_moments(self.table.cells, c.terms, c.arrays, f, chain.V)

    def fill(self, chain: Chain, theta: Parameters, f: np.ndarray) -> int:
        """Draw the missing values; returns 0, or -1 if Sigma is not positive definite."""
        c, arrays = self.chained, self.chained.arrays
        if self.shift is not None and arrays.lower.size:
            # y + delta within the bounds means y within the bounds minus delta
            own = self.shift[:, 0]
            arrays = arrays._replace(lower=arrays.lower - own, upper=arrays.upper - own)
        done = fill(
            chain.rng, self.table.cells, c.terms, arrays, f, theta.beta, theta.B, theta.Sigma, chain.V
        )
        if done:
            self.add_shift(chain)
        return 0 if done else -1

    def add_shift(self, chain: Chain) -> None:
        """Add the shift to the missing values just drawn, whose means given the observed values move by as much."""
        if self.shift is None:
            return
        for k, numbers in zip(self.chained.columns, self.shift.T, strict=True):
            holes = self.table.holes(k)
            chain.V[holes, k - self.table.p] += numbers[holes]


class GibbsBlock(NormalBlock):
    """Gibbs updates of the mixed model with conditionally conjugate priors (`methods.Gibbs`).

    Several responses have a joint model given all other variables. With residual = "cluster" each cluster has its own
    residual variance.
    """

    method: Gibbs
    no_prior = ""

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        method, scale = self.method, self.chained.scale
        _, q, r = self.sizes
        name = self.chained.block.name
        self.Sigma = pr.rescale(pr.resolve(method.priors.Sigma, scale.s, f"Sigma of '{name}'"), scale.s)
        self.Psi = scale.working_Psi_prior(scale.Psi_prior(method.priors.Psi, f"Psi of '{name}'"))
        require_conjugate(name, self.Sigma, self.Psi)
        self.update_Sigma = covariance_update(self.Sigma, r)
        self.update_Psi = covariance_update(self.Psi, r * q)
        arrays = self.chained.arrays
        clusters = int((np.diff(arrays.first) > 0).sum())
        check_proper(self.update_Sigma, int(arrays.pattern_rows.sum()), r, f"Sigma of '{name}'", "rows")
        check_proper(self.update_Psi, clusters, r * q, f"Psi of '{name}'", "clusters")
        self.Q0, self.t0 = beta_prior(method.priors.beta, scale, r, f"beta of '{name}'")
        self.updates = method.inner
        self.by_cluster = method.residual == "cluster"
        if self.by_cluster and r > 1:
            raise SpecificationError(f"Block '{name}': residual='cluster' is for blocks of one variable.")
        c = self.chained
        common = c.terms, c.arrays, self.updates, self.update_Sigma, self.update_Psi, self.Q0, self.t0
        if self.by_cluster:
            self.no_prior = "each cluster has a residual variance of its own, whose distribution is estimated"
        # for whole cycles in one kernel call
        self.visit = None if r > 1 or self.by_cluster else Visit(*common)

    def init(self, chain: Chain) -> Parameters:
        """The general start, with known covariance matrices at their values."""
        theta = super().init(chain)
        Sigma, Psi = self.Sigma.known_value, self.Psi.known_value
        theta.Sigma = theta.Sigma if Sigma is None else Sigma[None]
        theta.Psi = theta.Psi if Psi is None else Psi
        if self.by_cluster:
            theta.Sigma = np.exp(chain.rng.normal(-0.5, 0.5, (self.table.clusters, 1, 1)))
            theta.own["s0_a"] = np.array([0.5, 10.0])
        theta.own["started"] = np.zeros(1)
        theta.own["held"] = np.zeros(theta.beta.size, dtype=np.int64)
        return theta

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Coefficients that the completed data did not determine."""
        return held_coefficients(self.chained.block, thetas)

    def step(self, chain: Chain, theta: Parameters) -> int:
        """One Gibbs iteration, then draws of the missing values."""
        c, table = self.chained, self.table
        if self.by_cluster:
            f, m = self.moments(chain)
            code = cluster_step(
                chain.rng, m, self.updates, self.update_Psi, VariancesPrior(), self.Q0, self.t0,
                theta.Sigma.reshape(-1), theta.own["s0_a"], theta.Psi, theta.beta, theta.B, theta.own["held"],
            )  # fmt: skip
            return -code if code else self.fill(chain, theta, f)
        updates = self.updates, self.update_Sigma, self.update_Psi, self.Q0, self.t0
        if self.shift is not None and self.sizes[2] == 1:
            f, m = self.moments(chain)
            own = theta.Sigma[0], theta.Psi, theta.beta, theta.B, theta.own["held"]
            code = common_step(chain.rng, m, *updates, *own)
            return -code if code else self.fill(chain, theta, f)
        state = theta.Sigma, theta.Psi, theta.beta, theta.B
        held: NDArray[np.int64] = theta.own["held"]
        if self.sizes[2] == 1:
            code = gibbs_step(chain.rng, table.cells, c.terms, c.arrays, *updates, *state, held, chain.V)
        else:
            first = not theta.own["started"][0]
            code = joint_step(
                chain.rng, table.cells, c.terms, c.arrays, first, *updates, *state, held, chain.V
            )
            theta.own["started"][0] = 1.0
            if not code:
                self.add_shift(chain)
        return -code

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of beta, sigma2 and Psi (priors/base.py)."""
        return log_priors(self, theta)

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Set the shift; cycles are then no longer a single kernel call."""
        super().move(moved)
        if self.shift is not None:
            self.visit = None


class MaximumLikelihoodBlock(NormalBlock):
    """Parameters from the asymptotic law of the maximum-likelihood estimate (Kunkel & Kaizar 2017, sec. 2.3.1)."""

    def __init__(self, table: ChainedTable, number: int) -> None:
        from bayesimp.kernels.lmm.draw import EVENTS, FAILURES, ml_step

        super().__init__(table, number)
        self._step = ml_step
        self.words = {**FAILURES, **EVENTS}
        self.holds = frozenset(FAILURES)

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A draw around the maximum-likelihood estimate, then draws of the missing values."""
        f, m = self.moments(chain)
        q = self.sizes[1]
        Lambda = np.empty(q * (q + 1) // 2)  # output for the estimate, not used here
        code = self._step(chain.rng, m, Lambda, theta.beta, theta.Sigma[0], theta.Psi, theta.B)
        return code if code < 0 else self.fill(chain, theta, f) or code


class RegressionBlock(NormalBlock):
    """Bayesian linear regression that ignores the clusters (mice's norm)."""

    words = {
        -2: ("failed", "there are no more observed rows than linearly independent predictors"),
        -3: ("failed", "the predictors explain it exactly"),
    }
    holds = frozenset(words)

    def init(self, chain: Chain) -> Parameters:
        """The general start, with counts of held coefficients."""
        theta = super().init(chain)
        theta.own["held"] = np.zeros(theta.beta.size, dtype=np.int64)
        return theta

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Coefficients that the completed data did not determine."""
        return held_coefficients(self.chained.block, thetas)

    def parameters(self, chain: Chain, theta: Parameters) -> tuple[np.ndarray, np.ndarray, int]:
        """Draw theta; returns the factors in each cluster, the least-squares fit and a code."""
        f, m = self.moments(chain)
        beta_hat, beta = np.empty(self.sizes[0]), theta.beta[:, 0].copy()
        n = int(self.chained.arrays.pattern_rows[0])
        products = m.XX[0], np.ascontiguousarray(m.XY[0, :, 0]), m.YY[0, 0, 0]
        sigma2, code = draw_regression(chain.rng, *products, n, beta_hat, beta, theta.own["held"])
        if not code:
            theta.beta[:, 0], theta.Sigma[0, 0, 0] = beta, sigma2
        return f, beta_hat[:, None], -code

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A draw of the regression, then draws of the missing values."""
        f, _, code = self.parameters(chain, theta)
        return code or self.fill(chain, theta, f)


class MatchingBlock(RegressionBlock):
    """Predictive mean matching of type 1, based on `RegressionBlock` (mice's pmm)."""

    method: PMM
    no_likelihood = (  # type: ignore[assignment]
        "it imputes values of donors and has no distribution of the response; 'norm' is the regression that it matches by"
    )

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        k = self.chained.columns[0]
        self.neighbours = self.method.donors
        self.column = k - table.p
        self.holes = table.holes(self.column + table.p)
        self.donors = ~self.holes & table.cell_fitted[table.row_cell]
        self.values = np.concatenate([table.D[:, k], table.start[self.donors, self.column]])

    def step(self, chain: Chain, theta: Parameters) -> int:
        """A draw of the regression, then values of donors with similar predictions."""
        f, beta_hat, code = self.parameters(chain, theta)
        if code:
            return code
        cells, c, table = self.table.cells, self.chained, self.table
        complete, incomplete, drawn = np.empty(len(table.D)), np.empty(len(chain.V)), np.empty(len(chain.V))
        data = table.D, table.D_cluster, chain.V
        predict(cells, c.terms, c.arrays, f, beta_hat, theta.B, *data, complete, incomplete)
        predict(cells, c.terms, c.arrays, f, theta.beta, theta.B, *data, np.empty(len(table.D)), drawn)
        if self.shift is not None:
            drawn += self.shift[:, 0]
        out = np.empty(int(self.holes.sum()))
        observed = np.concatenate([complete, incomplete[self.donors]])
        match(chain.rng, observed, self.values, drawn[self.holes], self.neighbours, out)
        chain.V[self.holes, self.column] = out
        return 0
