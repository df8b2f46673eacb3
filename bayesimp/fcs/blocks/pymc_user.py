"""Sampler for one variable in chained equations with the user's own PyMC model.

HMC updates all free variables given the rows where the variable is observed; missing values are then drawn from the
model's own node, whatever its distribution. `bayesimp.models.conditional_normal.ConditionalData` explains how to write
such a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.errors import SamplingError
from bayesimp.families.registry import family_of
from bayesimp.fcs.blocks.check_model import build, check_draws, wrong_values
from bayesimp.models.conditional_normal import ConditionalData
from bayesimp.sampling.compiled_model import Structure, compile_model
from bayesimp.sampling.hmc import adapt
from bayesimp.sampling.hmc_block import HmcBlock, HmcState

if TYPE_CHECKING:
    from bayesimp.priors import Priors

__all__ = ["UserConditional"]

# Higher than the usual .8: with few rows per cluster, effects and their sd form a funnel in which long steps get stuck.
# Effective draws per second of the worst parameter: 114 to 223 (bernoulli, 30 clusters of 5), 3 to 135 (3 categories).
ACCEPTANCE = 0.9


class UserConditional(HmcBlock):
    """A submodel written by the user; see `bayesimp.models.conditional_normal.ConditionalData`.

    Parameters
    ----------
    function
        ``(data, priors) -> pymc.Model``.
    data
        Rows where the variable is observed, on which the model is checked.
    priors
        Passed to the function.
    transitions
        Transitions per cycle.
    keep
        Names of quantities of the model that `parameters` returns besides the free variables.

    Raises
    ------
    SpecificationError
        The model cannot be used; the message says why.
    """

    structure: Structure

    def __init__(
        self,
        function: Callable,
        data: ConditionalData,
        priors: Priors | None = None,
        *,
        transitions: int = 3,
        keep: tuple[str, ...] = (),
    ) -> None:
        self.transitions, self.name, self._data = transitions, data.name, data
        model, probe = build(function, data, priors)
        free = {v.name for v in model.free_RVs}
        kept = tuple(name for name in keep if name in model.named_vars and name not in free)
        self.structure = compile_model(model, keep=kept, draw=data.name)
        state = HmcState(self.structure.start)
        check_draws(self._draw(np.random.default_rng(0), state, data, probe), probe)

    def adapt(self, rng: np.random.Generator, observed: ConditionalData) -> None:
        """Warm up on these data; all imputations then use the resulting step size and metric."""
        arrays = self._arrays(observed)
        theta = self.structure.start.copy()
        self.adaptation = adapt(
            lambda theta, C, e: self.move(rng, theta, arrays, C, e, 1), theta, target=ACCEPTANCE
        )

    def start(self, rng: np.random.Generator, observed: ConditionalData) -> HmcState:
        """The state from which an imputation starts."""
        return self.start_near_mean(rng, self._arrays(observed))

    def step_rows(
        self, rng: np.random.Generator, state: HmcState, observed: ConditionalData, missing: ConditionalData
    ) -> np.ndarray:
        """Update the state (in place) given the observed rows, and draw the missing values.

        Parameters
        ----------
        observed, missing
            The rows of this cycle; y of `missing` is not used.

        Returns
        -------
        Drawn values (n_missing,).
        """
        self.transition(rng, state, self._arrays(observed), self.transitions)
        if len(missing.X) == 0:
            return np.zeros(0)
        return self._checked_draw(rng, state, observed, missing)

    def replicates(self, rng: np.random.Generator, state: HmcState, observed: ConditionalData) -> np.ndarray:
        """(n,) values drawn in the observed rows, as if they were missing."""
        return self._checked_draw(rng, state, observed, observed)

    def _checked_draw(
        self, rng: np.random.Generator, state: HmcState, observed: ConditionalData, missing: ConditionalData
    ) -> np.ndarray:
        drawn = self._draw(rng, state, observed, missing)
        if family_of(missing.family).support.is_below_one:
            # values rounded to 0 or 1 move to the nearest number inside; the event "rounded" reports them
            drawn = np.where(drawn == 0.0, np.finfo(float).tiny, drawn)
            drawn = np.where(drawn == 1.0, np.nextafter(1.0, 0.0), drawn)
        if not np.isfinite(drawn).all():
            raise SamplingError(
                f"The model of '{self.name}' drew {int((~np.isfinite(drawn)).sum())} of {len(drawn)} values that are "
                "not finite. Give the parameters of its errors priors with lighter tails."
            )
        if wrong := wrong_values(drawn, missing):
            raise SamplingError(f"The model of '{self.name}' ({missing.family}) drew {wrong}.")
        return drawn

    def parameters(self, state: HmcState, observed: ConditionalData) -> dict[str, np.ndarray]:
        """The free variables at the state, and other quantities that are kept, by their names in the model."""
        values = self.structure.compiled.natural(state.theta, *self._arrays(observed))
        return {k: np.array(v) for k, v in zip(self.structure.names, values, strict=True)}

    def _arrays(self, rows: ConditionalData) -> tuple:
        return self.structure.filled(**{f"data.{k}": x for k, x in rows.arrays().items()})

    def _draw(
        self, rng: np.random.Generator, state: HmcState, observed: ConditionalData, missing: ConditionalData
    ) -> np.ndarray:
        # free variables use the observed rows (a bound may depend on them), the draw the missing ones, whose y
        # is nan to expose a model that uses it to draw y
        compiled = self.structure.compiled
        free = compiled.natural(state.theta, *self._arrays(observed))[: self.structure.free]
        rows = self._arrays(replace(missing, y=np.full(len(missing.X), np.nan)))
        seeds = rng.integers(2**63, size=compiled.generators)
        generators = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        try:
            assert compiled.draw is not None, "compile_model(draw=...) makes it"
            return compiled.draw(*(np.array(v, order="C") for v in free), *generators, *rows)
        except ValueError as error:
            raise SamplingError(
                f"The model of '{self.name}' could not draw ({str(error).splitlines()[0]}): a mean or a probability "
                "is out of range, perhaps a log mean that follows an extreme covariate. Check the covariates, or give "
                "their coefficients priors with lighter tails."
            ) from error
