"""Sampler for one normal variable in chained equations, under any prior, as a PyMC model.

    y = X beta + Z b + e        models/conditional_normal.py

One transition of (Sigma, Psi), given the data of this cycle, starts from the state at the end of the last cycle:

    beta          | Sigma, Psi, y      exact, b integrated out            kernels/chained/gibbs.py
    Sigma, Psi    | beta, y            one trajectory of HMC, b integrated out
    finally beta, b | Sigma, Psi, y    exact

HMC thus has 1 + q(q+1)/2 parameters for any number of predictors, clusters and rows, and its metric does not depend on
the predictors, which change from cycle to cycle. `adapt` finds step size and metric once for all imputations; the
invariant distribution does not depend on them. Data are arguments of the compiled functions.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from bayesimp import priors as pr
from bayesimp.errors import SamplingError
from bayesimp.kernels.chained.gibbs import common_step
from bayesimp.kernels.covariance.update import FIXED, CovarianceUpdate
from bayesimp.kernels.normal.effects import Moments
from bayesimp.kernels.normal.marginal import MarginalData
from bayesimp.models.conditional_normal import conditional_normal
from bayesimp.sampling.compiled_model import compile_model
from bayesimp.sampling.hmc import adapt
from bayesimp.sampling.hmc_block import HmcBlock, HmcState

__all__ = ["NormalConditional", "NormalDraw"]


class NormalDraw(NamedTuple):
    """A draw of beta (p, 1), Sigma (1, 1), Psi (q, q) and B (m, q, 1), for all clusters."""

    beta: np.ndarray
    Sigma: np.ndarray
    Psi: np.ndarray
    B: np.ndarray


class NormalConditional(HmcBlock):
    """The normal conditional model under any of the library's priors.

    Parameters
    ----------
    priors
        Resolved priors (`bayesimp.priors.resolve`) with d = 1 for Sigma and q for Psi, on the scale of the moments.
    p, q
        Numbers of columns of X and Z.
    transitions
        Transitions per cycle; even one moves at least as far as a Gibbs update (benchmarks/pymc_block.py).
    beta_prior
        Q0 (p, p) and t0 (p,), precision and precision times mean, instead of ``priors.beta``.
    name
        Name of the variable, for messages.

    The functions are compiled here, unless this was done for a model with the same q and kinds of prior (including
    degrees of freedom); p, scales of priors and data are arguments.
    """

    def __init__(
        self,
        priors: pr.Priors,
        p: int,
        q: int,
        *,
        transitions: int = 1,
        beta_prior: tuple[np.ndarray, np.ndarray] | None = None,
        name: str = "y",
    ) -> None:
        self.p, self.q, self.transitions, self.name = p, q, transitions, name
        for prior, d, which in ((priors.Sigma, 1, "Sigma"), (priors.Psi, q, "Psi")):
            cure = "Use a larger nu, or the Gibbs method."
            prior.require_proper(d, f"{which} of '{name}'", "a PyMC model", cure)
        self._Q0: np.ndarray
        self._t0: np.ndarray
        unscaled = SimpleNamespace(
            T=np.eye(p), s=np.ones(1), working_beta=lambda beta: beta, intercept=-1, contextual=None
        )
        self._Q0, self._t0 = priors.beta.precision(unscaled, 1, name) if beta_prior is None else beta_prior
        d = 2 + p + q
        data = MarginalData(
            np.ones((1, 1), np.int32), np.zeros((1, 2), np.int32), np.zeros((1, d, d)), np.zeros((1, d, d))
        )
        model = conditional_normal(data, priors, p, q)
        known = {"Sigma": priors.Sigma.is_known, "Psi": priors.Psi.is_known}
        self._constants = {k: np.array(model[k].eval()) for k, is_known in known.items() if is_known}
        kept = [v.name for v in model.deterministics if v.name not in self._constants]
        free = [v for v in model.free_RVs if v.name != "beta"]
        self.structure = compile_model(model, given=["beta"], keep=kept) if free else None
        known_Sigma, known_Psi = (CovarianceUpdate(FIXED, 0.0, np.zeros((k, k)), np.ones(k)) for k in (1, q))
        self._known = known_Sigma, known_Psi

    def adapt(self, rng: np.random.Generator, moments: Moments) -> None:
        """Warm up on these data; all imputations then use the resulting step size and metric."""
        if self.structure is None:
            return
        arrays, draw = self._arrays(moments)

        def move(theta: np.ndarray, C: np.ndarray, e: float) -> np.ndarray:
            self._covariances(theta, arrays, draw)
            self._effects(rng, moments, draw)
            return self.move(rng, theta, arrays, C, e, 1)

        self.adaptation = adapt(move, self.structure.start.copy())

    def start(self, rng: np.random.Generator, moments: Moments) -> HmcState:
        """The initial state of an imputation."""
        if self.structure is None:
            return HmcState(np.zeros(0))
        return self.start_near_mean(rng, self._arrays(moments)[0])

    def step(self, rng: np.random.Generator, state: HmcState, moments: Moments) -> NormalDraw:
        """Update the state (in place), and draw beta and the effects given it.

        Parameters
        ----------
        moments
            Moments of the rows where y is observed: r = 1, one pattern, at most one cell per cluster.

        Raises
        ------
        SamplingError
            beta is not identified, or the log density is not finite.
        """
        arrays, draw = self._arrays(moments)
        self._covariances(state.theta, arrays, draw)
        for _ in range(self.transitions if self.structure else 0):
            self._effects(rng, moments, draw)
            self.transition(rng, state, arrays, 1)
            self._covariances(state.theta, arrays, draw)
        self._effects(rng, moments, draw)
        return draw

    def _arrays(self, m: Moments) -> tuple[tuple, NormalDraw]:
        """Arguments of the density, from the moments, and a draw to be filled in; its beta is one of the arguments."""
        p, q, clusters = self.p, self.q, len(m.first) - 1
        x, z, d = slice(1, 1 + p), slice(1 + p, 1 + p + q), 2 + p + q
        draw = NormalDraw(np.zeros((p, 1)), np.ones((1, 1)), np.eye(q), np.zeros((clusters, q, 1)))
        total, gram = np.zeros((1, d, d)), np.zeros((len(m.ZZ), d, d))
        total[0, 0, 0] = m.pattern_rows.sum()
        total[0, x, x], total[0, x, -1] = m.XX[0], m.XY[0, :, 0]
        total[0, -1, x], total[0, -1, -1] = m.XY[0, :, 0], m.YY[0, 0, 0]
        gram[:, z, z], gram[:, z, x] = m.ZZ, m.ZX
        gram[:, x, z], gram[:, z, -1] = m.ZX.mT, m.ZY[:, :, 0]
        cells = np.zeros((len(m.ZZ), 2), np.int32)
        cells[:, 0] = np.repeat(np.arange(clusters), np.diff(m.first))
        if self.structure is None:
            return (), draw
        return self.structure.filled(beta=draw.beta, total=total, gram=gram, cells=cells), draw

    def _covariances(self, theta: np.ndarray, arrays: tuple, draw: NormalDraw) -> None:
        """Set Sigma and Psi of the draw from theta."""
        named = dict(self._constants)
        if self.structure is not None:
            values = self.structure.compiled.natural(theta, *arrays)
            named |= dict(zip(self.structure.names, values, strict=True))
        draw.Sigma[:], draw.Psi[:] = named["Sigma"], named["Psi"]

    def _effects(self, rng: np.random.Generator, m: Moments, draw: NormalDraw) -> None:
        """Draw beta and B given Sigma and Psi of the draw."""
        beta, Sigma, Psi, B = draw
        code = common_step(
            rng, m, 1, *self._known, self._Q0, self._t0, Sigma, Psi, beta, B, np.empty(0, np.int64)
        )
        if code:
            what = {1: "Sigma is not positive", 3: "the fixed effects are not identified"}
            raise SamplingError(
                f"The model of '{self.name}': {what.get(code, 'Psi is not positive definite')}. Often predictors are "
                "(nearly) equal, or the variable is (nearly) constant. Remove one, or give beta a normal prior."
            )
