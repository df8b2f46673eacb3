"""The block of `methods.Heckman`: HMC of the selection model, then draws of the missing values given it.

The model, `bayesimp.models.selection`, contains the rows of clusters with observed values: those where the variable is
observed and those where it is missing, except ignored ones. Rows of other clusters are only imputed, without selection.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bayesimp import priors as pr
from bayesimp.events import Event
from bayesimp.fcs.blocks.base import FREE, Chain, Parameters, ShiftedRows
from bayesimp.fcs.blocks.pymc import completed_chain, pack_state, unpack_state
from bayesimp.fcs.blocks.rows import BlockRows
from bayesimp.fcs.table import ChainedTable
from bayesimp.methods.heckman import Heckman
from bayesimp.models.selection import SelectionData, draw_missing, selection_model
from bayesimp.priors.gibbs import beta_prior
from bayesimp.sampling.compiled_model import Structure, compile_model
from bayesimp.sampling.hmc import adapt
from bayesimp.sampling.hmc_block import HmcBlock, HmcState, events

__all__ = ["SelectionBlock"]

ACCEPTANCE = 0.9  # as for other models with effects of clusters (fcs/blocks/pymc_user.py)


class SelectionConditional(HmcBlock):
    """The selection model of one variable, compiled.

    Parameters
    ----------
    data
        Rows of the model.
    priors
        Resolved priors of beta, Sigma and Psi on the working scale.
    outcome
        Columns of X that affect the variable.
    rho
        The correlation of the errors, if it is known.
    transitions
        NUTS transitions per visit.
    normal
        Precision (p, p) of the prior of beta, and precision times mean (p,); beta is flat otherwise.
    """

    def __init__(
        self,
        data: SelectionData,
        priors: pr.Priors,
        outcome: list[int],
        rho: float | None,
        transitions: int,
        normal: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self.name, self.transitions, self.rho = data.name, transitions, rho
        model = selection_model(data.variables(), priors, outcome, rho, normal)
        self.structure: Structure = compile_model(model, keep=["b", "c"])

    def adapt(self, rng: np.random.Generator, data: SelectionData) -> None:
        """Tune step size and metric on these rows."""
        arrays, start = self.arrays(data), self.structure.start.copy()
        self.adaptation = adapt(
            lambda theta, C, e: self.move(rng, theta, arrays, C, e, 1), start, target=ACCEPTANCE
        )

    def arrays(self, data: SelectionData) -> tuple:
        """The arguments of the compiled functions."""
        return self.structure.filled(**{f"data.{name}": x for name, x in data.arrays().items()})

    def natural(self, state: HmcState, data: SelectionData) -> dict[str, np.ndarray]:
        """The parameters at the state, by name."""
        values = self.compiled.natural(state.theta, *self.arrays(data))
        known = {} if self.rho is None else {"rho": np.array(self.rho)}
        return {k: np.array(x) for k, x in zip(self.structure.names, values, strict=True)} | known


class SelectionBlock(ShiftedRows):
    """HMC of the selection model, then draws of the missing values."""

    adapts = True
    method: Heckman

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        self.block_rows = rows = BlockRows(table, number)
        block, method, scale = self.chained.block, self.method, self.chained.scale
        self.selected = np.isin(rows.hole_cluster, rows.cluster)
        fitted = table.cell_fitted[table.row_cell[rows.holes]]
        self.used = self.selected & fitted  # missing values of the rows of the model
        self.outcome = [k for k, c in enumerate(block.fixed) if not method.excludes(c)]
        priors = pr.default() if method.priors is None else method.priors
        Sigma = pr.rescale(pr.resolve(priors.Sigma, scale.s, f"Sigma of '{block.name}'"), scale.s)
        Psi = scale.working_Psi_prior(scale.Psi_prior(priors.Psi, f"Psi of '{block.name}'"))
        working, at = pr.Priors(Sigma, Psi, pr.Flat()), self.outcome
        Q0, t0 = beta_prior(priors.beta, scale, 1, f"beta of '{block.name}'")
        data = self.rows(completed_chain(table))[0]
        self.model = SelectionConditional(
            data, working, at, method.rho, method.transitions, (Q0[np.ix_(at, at)], t0[at])
        )

    def rows(self, chain: Chain) -> tuple[SelectionData, tuple[np.ndarray, np.ndarray]]:
        """The rows of the model, and X and Z of all rows to be imputed."""
        block, rows = self.chained.block, self.block_rows
        f = rows.factors(chain.V)
        (X, Z), (X_holes, Z_holes) = rows.observed(chain.V, f), rows.missing(chain.V, f)
        at, n = self.used, len(rows.y)
        data = SelectionData(
            block.name,
            np.concatenate([rows.y + self.chained.terms.offset[-1], np.zeros(at.sum())]),
            np.concatenate([X, X_holes[at]]),
            np.concatenate([Z, Z_holes[at]]),
            np.concatenate([rows.cluster, rows.hole_cluster[at]]),
            self.table.clusters,
            tuple(c.name for c in block.fixed),
            tuple(c.name for c in block.random),
            observed=np.arange(n + at.sum()) < n,
        )
        return data, (X_holes, Z_holes)

    def adapt(self, chain: Chain) -> None:
        """Tune step size and metric of HMC on the completed data of this chain."""
        self.model.adapt(chain.rng, self.rows(chain)[0])

    def init(self, chain: Chain) -> Parameters:
        """An initial state of HMC."""
        data, _ = self.rows(chain)
        state = self.model.start_near_mean(chain.rng, self.model.arrays(data))
        theta = Parameters(own=pack_state(state))
        self._keep(theta, self.model.natural(state, data))
        return theta

    def step(self, chain: Chain, theta: Parameters) -> int:
        """HMC transitions, then draws of the missing values."""
        data, (X, Z) = self.rows(chain)
        state = unpack_state(theta)
        self.model.transition(chain.rng, state, self.model.arrays(data), self.model.transitions)
        natural = self.model.natural(state, data)
        theta.own |= pack_state(state)
        self._keep(theta, natural)
        rows = self.block_rows
        at = rows.hole_cluster
        mu = X @ theta.beta[:, 0] + (Z * natural["b"][at]).sum(axis=1)
        eta = np.where(self.selected, X @ natural["gamma"] + natural["c"][at], -np.inf)
        drawn = draw_missing(chain.rng, mu, eta, float(np.sqrt(theta.Sigma[0, 0, 0])), float(natural["rho"]))
        rows.put(chain.V, drawn - self.chained.terms.offset[-1] + self.shift)
        return 0

    def _keep(self, theta: Parameters, natural: Mapping[str, np.ndarray]) -> None:
        """Store the parameters as other blocks do; excluded columns have the coefficient 0."""
        theta.beta = np.zeros((len(self.chained.block.fixed), 1))
        theta.beta[self.outcome] = natural["beta"]
        theta.Sigma, theta.Psi = natural["Sigma"][None], natural["Psi"]
        theta.B = natural["b"][:, :, None]
        if self.method.rho is None:
            theta.own[f"{FREE}rho"] = natural["rho"]

    def events(self, thetas: list[Parameters]) -> list[Event]:
        """Divergences and acceptance of HMC."""
        return events(map(unpack_state, thetas), self.chained.block.name)
