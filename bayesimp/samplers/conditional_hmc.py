"""Blocks of the chained-equations loop that sample a PyMC model: any prior, or a model of the user's own.

What is sampled, and how: samplers/conditional_pymc.py, samplers/conditional_user.py. Here they are given what a cycle
has changed, and their state is kept with the parameters of the chain.
"""

from __future__ import annotations

import numpy as np

from bayesimp.data.chained import ChainedTable
from bayesimp.errors import SpecificationError
from bayesimp.events import Event
from bayesimp.kernels.chained import cluster_factors
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.samplers.conditional import NormalBlock
from bayesimp.samplers.conditional_pymc import NormalConditional
from bayesimp.samplers.conditional_user import UserConditional
from bayesimp.samplers.fcs import FREE, Chain, Parameters
from bayesimp.samplers.hmc_block import HmcState, events
from bayesimp.samplers.joint_gibbs import beta_prior
from bayesimp.spec import priors as pr

__all__ = ["OwnModel", "PriorModel"]


def _pack(state: HmcState) -> dict[str, np.ndarray]:
    counts = [state.transitions, state.acceptance, state.divergences]
    return {"hmc": state.theta, "hmc_counts": np.array(counts, dtype=float)}


def _unpack(theta: Parameters) -> HmcState:
    transitions, acceptance, divergences = theta.own["hmc_counts"]
    return HmcState(theta.own["hmc"], int(transitions), float(acceptance), int(divergences))


class PriorModel(NormalBlock):
    """The normal conditional model under any prior of the library (`methods.PyMC(priors)`)."""

    def __init__(self, table: ChainedTable, number: int) -> None:
        super().__init__(table, number)
        method, scale, name = self.chained.block.method, self.chained.scale, self.chained.block.name
        p, q, r = self.sizes
        priors = pr.default() if method.priors is None else method.priors
        Sigma = pr.rescale(pr.resolve(priors.Sigma, scale.s, f"Sigma of '{name}'"), scale.s)
        Psi = pr.rescale(pr.resolve(priors.Psi, scale.e, f"Psi of '{name}'"), scale.e)
        options = {} if method.transitions is None else {"transitions": method.transitions}
        self.model = NormalConditional(
            pr.Priors(Sigma, Psi),
            p,
            q,
            beta_prior=beta_prior(priors.beta, scale, r, f"beta of '{name}'"),
            name=name,
            **options,
        )

    def adapt(self, chain: Chain) -> None:
        self.model.adapt(chain.rng, self.moments(chain)[1])

    def init(self, chain: Chain) -> Parameters:
        theta = super().init(chain)
        theta.own |= _pack(self.model.start(chain.rng, self.moments(chain)[1]))
        return theta

    def step(self, chain: Chain, theta: Parameters) -> int:
        f, m = self.moments(chain)
        state = _unpack(theta)
        theta.beta, Sigma, theta.Psi, theta.B = self.model.step(chain.rng, state, m)
        theta.Sigma = Sigma[None]
        theta.own |= _pack(state)
        return self.fill(chain, theta, f)

    def events(self, thetas: list[Parameters]) -> list[Event]:
        return events(map(_unpack, thetas), self.chained.block.name)


class OwnModel:
    """A PyMC model that the user wrote (`methods.PyMC(model=...)`), on the rows of the working scale."""

    words: dict = {}

    def __init__(self, table: ChainedTable, number: int) -> None:
        self.table, self.chained = table, table.blocks[number]
        k = self.chained.columns[0]
        self.column = k - table.p
        self.holes = table.holes(self.column + table.p)
        self.seen = ~self.holes & table.cell_fitted[table.row_cell]
        arrays, name = self.chained.arrays, self.chained.block.name
        if np.isfinite(arrays.lower).any() or np.isfinite(arrays.upper).any():
            raise SpecificationError(
                f"bounds['{name}']: a PyMC model of your own draws '{name}', and knows nothing of them. Bound its node "
                f"in the model (pm.Truncated), or change what is drawn by post={{'{name}': ...}}."
            )
        chain = _completed(table)
        method = self.chained.block.method
        options = {} if method.transitions is None else {"transitions": method.transitions}
        self.model = UserConditional(method.model, self.rows(chain)[0], method.priors, **options)

    def rows(self, chain: Chain) -> tuple[ConditionalData, ConditionalData]:
        """Rows with the variable observed (and fitted), and rows with it missing, as this cycle has them."""
        table, block = self.table, self.chained.block
        terms = self.chained.terms
        f = cluster_factors(table.cells, terms, chain.V)
        D = np.hstack([table.cells.X, chain.V])
        cluster = table.cells.cluster[table.row_cell]
        observed = np.vstack([table.D, D[self.seen]]), np.concatenate([table.D_cluster, cluster[self.seen]])
        out = []
        for rows, codes in (observed, (D[self.holes], cluster[self.holes])):
            values = f[codes] * (rows[:, terms.base] + terms.offset)
            p, labels = (
                len(block.fixed),
                [tuple(c.name for c in part) for part in (block.fixed, block.random)],
            )
            y, X, Z = values[:, -1], values[:, :p], values[:, p:-1]
            out.append(ConditionalData(block.name, y, X, Z, codes, table.clusters, *labels))
        return out[0], out[1]

    def adapt(self, chain: Chain) -> None:
        self.model.adapt(chain.rng, self.rows(chain)[0])

    def init(self, chain: Chain) -> Parameters:
        observed = self.rows(chain)[0]
        state = self.model.start(chain.rng, observed)
        none = [np.zeros(0)] * 4
        return Parameters(*none, _pack(state) | self._free(state, observed))

    def step(self, chain: Chain, theta: Parameters) -> int:
        observed, missing = self.rows(chain)
        state = _unpack(theta)
        values = self.model.step_rows(chain.rng, state, observed, missing)
        theta.own |= _pack(state) | self._free(state, observed)
        chain.V[self.holes, self.column] = values - self.chained.terms.offset[-1]
        return 0

    def _free(self, state: HmcState, observed: ConditionalData) -> dict[str, np.ndarray]:
        return {f"{FREE}{name}": x for name, x in self.model.parameters(state, observed).items()}

    def events(self, thetas: list[Parameters]) -> list[Event]:
        return events(map(_unpack, thetas), self.chained.block.name)


def _completed(table: ChainedTable) -> Chain:
    """A chain to look at the shape of the rows: its missing values are the means."""
    V = np.nan_to_num(table.start)
    table.derive(V)
    return Chain(np.random.default_rng(0), V, [])
