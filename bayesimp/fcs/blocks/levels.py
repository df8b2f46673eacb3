"""Blocks of one variable with effects of several grouping factors, nested or crossed (docs/mathematics.md, sec. 16).

    g(E y) = X* beta + Z* b_i + sum_s u_s,g(s),     b_i ~ N(0, Psi),     u_sg ~ N(0, tau_s^2) for the groups g of factor s

A normal variable is sampled as in the joint model (kernels/levels/gibbs.py): beta and the effects of a chain of nested
factors in one block, the other factors given.

Groups without an observed value have effects from their distribution, drawn last; nothing else reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import FREE, Chain, Parameters, log_priors, without_limits
from bayesimp.fcs.blocks.glmm import GeneralisedBlock
from bayesimp.fcs.blocks.group_rows import rows_of
from bayesimp.fcs.blocks.normal import FATAL
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.scale import factor_scale
from bayesimp.fcs.table import ChainedTable
from bayesimp.joint.levels.factors import chains_of
from bayesimp.joint.levels.gibbs import psi_priors
from bayesimp.kernels.chained.rows import linear_predictors
from bayesimp.kernels.covariance.update import CovarianceUpdate
from bayesimp.kernels.levels.design import design_moments, levels_design
from bayesimp.kernels.levels.gibbs import levels_gibbs
from bayesimp.kernels.levels.records import RowsToFill
from bayesimp.methods import Gibbs
from bayesimp.notation import in_tree
from bayesimp.priors.gibbs import beta_prior, check_proper, covariance_update, is_conjugate, require_conjugate

__all__ = ["BlockFactors", "FactorBlock", "FactorRows", "LevelsNormal"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class FactorRows:
    """The groups of the rows of a block in every factor, the primary clusters first.

    numbers (S,): groups of the table; observed (n, S), missing (R, S): of rows where the response is observed or not.
    """

    numbers: tuple[int, ...]
    observed: Ints
    missing: Ints

    @classmethod
    def of(cls, rows: BlockRows) -> FactorRows:
        """Those of a block's rows."""
        if rows.are_groups:
            return cls((rows.table.clusters,), rows.cluster[:, None], rows.hole_cluster[:, None])
        table, further = rows.table, rows.chained.block.further
        place, cluster = rows.places(), np.concatenate([rows.cluster, rows.hole_cluster])
        codes = np.column_stack([cluster, *(table.groups[f.label][place] for f in further)]).astype(np.int64)
        numbers = table.clusters, *(len(f.groups) for f in further)
        return cls(numbers, codes[: len(rows.source)], codes[len(rows.source) :])

    @cached_property
    def seen(self) -> tuple[NDArray[np.bool_], ...]:
        """By factor, which groups have a row where the response is observed."""
        return tuple(
            np.bincount(c, minlength=n) > 0 for c, n in zip(self.observed.T, self.numbers, strict=True)
        )


class BlockFactors:
    """What blocks with several factors share: priors of further variances, their state, groups of rows."""

    def __init__(self, rows: BlockRows, method: Gibbs) -> None:
        self.rows, block = FactorRows.of(rows), rows.chained.block
        self.labels, self.scale = [f.label for f in block.further], factor_scale(rows.chained.scale.s)
        self.priors: list[pr.CovariancePrior] = []
        self.updates: list[CovarianceUpdate] = []
        for s, label in enumerate(self.labels, 1):
            where = f"Psi_{label} of '{block.name}'"
            prior = self.scale.working_Psi_prior(self.scale.Psi_prior(method.priors.of_factor(label), where))
            if not is_conjugate(prior):
                raise SpecificationError(
                    f"{where}: the Gibbs sampler has no update for {type(prior).__name__}; take InverseWishart, "
                    "HuangWand, Diagonal of these kinds or Fixed."
                )
            self.priors.append(prior)
            self.updates.append(covariance_update(prior, 1))
            check_proper(self.updates[-1], int(self.rows.seen[s].sum()), 1, where, "groups")

    def start(self, chain: Chain, theta: Parameters) -> None:
        """No effects, scales at random."""
        for s, (prior, number) in enumerate(zip(self.priors, self.rows.numbers[1:], strict=True), 1):
            drawn = np.exp(chain.rng.normal(-1.5, 1.0, (1, 1)))
            theta.own[f"Psi_{s}"] = drawn if prior.known_value is None else np.array(prior.known_value)
            theta.own[f"effects_{s}"] = np.zeros((number, 1, 1))
        self.keep(theta)

    def keep(self, theta: Parameters) -> None:
        """Store the variances for the results, in the units of the data."""
        for s, label in enumerate(self.labels, 1):
            theta.own[f"{FREE}Psi_{in_tree(label)}"] = self.scale.Psi(theta.own[f"Psi_{s}"])

    def added(self, theta: Parameters, codes: Ints, without: int = 0) -> Array:
        """(n,) what the effects of further factors, except one, add to rows with these groups (n, S)."""
        total = np.zeros(len(codes))
        for s in range(1, codes.shape[1]):
            if s != without:
                total += theta.own[f"effects_{s}"][codes[:, s], 0, 0]
        return total


class FactorBlock(GeneralisedBlock):
    """What blocks with several factors share: the state of `BlockFactors`, and groups as rows."""

    method: Gibbs

    @property
    def no_likelihood(self) -> str:  # type: ignore[override]
        """Why rows have none."""
        if self.rows.are_groups:
            return "it has one value for each group, and terms of the likelihood are rows"
        return without_limits(self.chained)

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, Array, Array | None]:
        """Linear predictors (n, 1) with the effects of all factors."""
        rows, eta, _ = self._predictors(chain, theta)
        return rows, eta + self.factors.added(theta, self.factors.rows.observed)[:, None], None

    def new_effects(self, rng: np.random.Generator, theta: Parameters) -> Parameters:
        """New clusters, and new groups of the other factors."""
        made, own = super().new_effects(rng, theta), dict(theta.own)
        for s in range(1, len(self.factors.rows.numbers)):
            sd = np.sqrt(own[f"Psi_{s}"][0, 0])
            own[f"effects_{s}"] = sd * rng.standard_normal(own[f"effects_{s}"].shape)
        return replace(made, own=own)

    def log_prior(self, theta: Parameters) -> dict[str, float]:
        """Of beta, sigma2, auxiliary parameters and the covariance of every factor."""
        out, method = log_priors(self, theta) | self._log_aux(theta), self.method
        for s, label in enumerate(self.factors.labels, 1):
            where = f"Psi_{label} of '{self.chained.block.name}'"
            prior, scale = method.priors.of_factor(label), self.factors.scale
            of_data = scale.Psi_prior(prior, where).log_density(scale.Psi(theta.own[f"Psi_{s}"]), where)
            out[f"Psi_{in_tree(label)}"] = float(of_data)
        return out

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.factors = BlockFactors(self.rows, self.method)
        self.drawn = self.rows.drawn

    def block_rows(self, number: int) -> BlockRows:
        """Rows, or groups in each of which the variable has a single value."""
        return rows_of(self.table, number)

    def move(self, moved: Mapping[str, np.ndarray]) -> None:
        """Take a shift; for a variable of groups, that of any of their rows."""
        super().move(moved)
        if not isinstance(self.shift, float):
            self.shift = self.rows.to_impute(self.shift)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Events of the sampler, and rows whose value was known from their group."""
        return [*super().events(thetas), *self.rows.events]


class LevelsNormal(FactorBlock):
    """A normal variable (`methods.Gibbs`)."""

    words = FATAL
    holds = frozenset(FATAL)
    no_prior = ""

    def predictors(self, chain: Chain, theta: Parameters) -> tuple[BlockRows, Array, Array | None]:
        """Means (n, 1) on the working scale, and residual standard deviations (n,)."""
        rows, eta, _ = super().predictors(chain, theta)
        return rows, eta - self.offset, np.full(len(eta), np.sqrt(theta.Sigma[0, 0, 0]))

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        method, scale, name = self.method, self.chained.scale, self.chained.block.name
        self.Sigma = pr.rescale(pr.resolve(method.priors.Sigma, scale.s, f"Sigma of '{name}'"), scale.s)
        self.Psi = scale.working_Psi_prior(scale.Psi_prior(method.priors.Psi, f"Psi of '{name}'"))
        require_conjugate(
            name, self.Sigma, self.Psi,
            otherwise=", and no other sampler takes several grouping factors. Use InverseWishart, HuangWand, Diagonal of "
            "HalfT or InverseWishart, or Fixed.",
        )  # fmt: skip
        groups = self.factors.rows
        codes = np.column_stack(
            [(np.cumsum(seen) - 1)[c] for seen, c in zip(groups.seen, groups.observed.T, strict=True)]
        )
        self.numbers = [int(seen.sum()) for seen in groups.seen]
        self.widths = [self.q, *(1 for _ in self.factors.labels)]
        factors = self.chained.block.factors
        self.design = levels_design(
            codes, self.numbers, self.widths, chains_of(factors) if factors else [[0]]
        )
        self.update_Sigma = covariance_update(self.Sigma, 1)
        own = covariance_update(self.Psi, self.q)
        check_proper(self.update_Sigma, len(self.rows.y), 1, f"Sigma of '{name}'", "rows")
        check_proper(own, self.numbers[0], self.q, f"Psi of '{name}'", "clusters")
        self.psi_priors = psi_priors([own, *self.factors.updates], self.widths)
        self.Q0, self.t0 = beta_prior(method.priors.beta, scale, 1, f"beta of '{name}'")
        # without an intercept to absorb it, the origin of the response is in its column
        self.offset = float(self.chained.terms.offset[-1])
        self.y = self.rows.y + self.offset
        self.heavy = True

    def init(self, chain: Chain) -> Parameters:
        """Standard deviations of the working scale times log-normal factors; known covariances at their values."""
        rng, Sigma, Psi = chain.rng, self.Sigma.known_value, self.Psi.known_value
        started = np.exp(rng.normal(-0.5, 0.5, (1, 1))), np.diag(np.exp(rng.normal(-1.5, 1.0, self.q)))
        theta = Parameters(
            np.zeros((self.p, 1)), (started[0] if Sigma is None else np.array(Sigma))[None],
            started[1] if Psi is None else np.array(Psi), np.zeros((self.table.clusters, self.q, 1)),
        )  # fmt: skip
        self.factors.start(chain, theta)
        self.rows.start(chain)
        return theta

    def step(self, chain: Chain, theta: Parameters) -> int:
        """Gibbs updates on the moments of the rows, then a fill."""
        f = self.rows.factors(chain.V)
        X, Z = self.rows.observed(chain.V, f)
        every = np.column_stack([Z, *(np.ones(len(Z)) for _ in self.factors.labels)])
        m, chains = design_moments(self.design, X, every, self.y)
        own, seen = theta.own, self.factors.rows.seen
        effects = [theta.B, *(own[f"effects_{s}"] for s in range(1, len(seen)))]
        Psis = [theta.Psi, *(own[f"Psi_{s}"] for s in range(1, len(seen)))]
        Sigma, Psi = theta.Sigma[0].copy(), np.concatenate([P.ravel() for P in Psis])
        b = np.concatenate([e[there].ravel() for e, there in zip(effects, seen, strict=True)])
        beta, none = np.empty((1, self.p, 1)), np.empty((1, self.numbers[0], 1))
        code = levels_gibbs(
            chain.rng, self.method.inner, self.method.inner, 1, m, self.design.factors, chains, self.update_Sigma,
            self.psi_priors, self.Q0, self.t0, self._no_rows, Sigma, Psi, b, beta, np.empty((1, 1, 1)),
            np.empty((1, len(Psi))), none, none.copy(), np.empty((1, 0)),
        )  # fmt: skip
        if code:
            return -int(code)
        theta.beta, theta.Sigma = beta[0], Sigma[None]
        at, psi_at = self.design.factors.effect_at, self.design.factors.psi_at
        for s, (P, effect, there) in enumerate(zip(Psis, effects, seen, strict=True)):
            P[:] = Psi[psi_at[s] : psi_at[s + 1]].reshape(P.shape)
            effect[there, :, 0] = b[at[s] : at[s + 1]].reshape(-1, len(P))
            z = chain.rng.standard_normal((int((~there).sum()), len(P)))
            effect[~there, :, 0] = z @ np.linalg.cholesky(P).T
        self.factors.keep(theta)
        return self.fill(chain, theta, f)

    @cached_property
    def _no_rows(self) -> RowsToFill:
        """The kernel imputes nothing: groups without an observed value are not in it."""
        none, place = np.empty((0, 1)), np.empty(0, dtype=np.int64)
        return RowsToFill(
            np.empty((0, self.p)), np.empty((0, sum(self.widths))), none, place, place, place, none
        )

    def fill(self, chain: Chain, theta: Parameters, f: Array) -> int:
        """Draw the missing values from the model at theta; 0."""
        X, Z = self.rows.missing(chain.V, f)
        mean = linear_predictors(X, Z, self.rows.hole_cluster, theta.beta, theta.B)[:, 0] - self.offset
        mean += self.factors.added(theta, self.factors.rows.missing)
        self.rows.put(chain.V, self.draw_normal(chain, mean, float(np.sqrt(theta.Sigma[0, 0, 0]))))
        return 0
