"""The posterior of the joint normal model given cross products alone: priors, what they identify, draws, their tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesimp import priors as pr
from bayesimp.diagnostics.convergence import Summary, diagnose
from bayesimp.errors import DataError, SpecificationError
from bayesimp.events import Event, event_table
from bayesimp.joint.gibbs import JointDraws
from bayesimp.joint.information import few_clusters, never_together
from bayesimp.joint.scale import Working
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.layout import Printed
from bayesimp.notation import effect_names
from bayesimp.priors.gibbs import is_conjugate
from bayesimp.scale.slopes import check_slopes

__all__ = ["PosteriorRun", "information", "working_priors"]


@dataclass(frozen=True)
class PosteriorRun(Printed, ABC):
    """Draws of the parameters given cross products.

    Attributes
    ----------
    draws
        beta (chains, draws, p, r), Sigma (.., r, r) and Psi (.., rq, rq) in the units of the data.
    working
        The sampler's input.
    m, seed, thin, spacing
        Imputation k uses draw (k // chains + 1) * spacing - 1 of chain k % chains.
    seconds
        Time spent sampling.
    log
        What could not be done as specified.
    """

    draws: JointDraws
    working: Working
    m: int
    seed: int
    thin: int
    spacing: int
    seconds: float
    log: tuple[Event, ...]

    @property
    @abstractmethod
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Names of the responses and of the columns of X and Z."""

    @property
    @abstractmethod
    def attrs(self) -> dict[str, Any]:
        """What makes the run repeatable."""

    @property
    def events(self) -> pd.DataFrame:
        """The log, one row for each event."""
        return event_table(self.log)

    @property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Chains and draws from which the m imputations are made."""
        k = np.arange(self.m)
        return k % self.draws.chains, (k // self.draws.chains + 1) * self.spacing - 1

    @cached_property
    def tree(self) -> xr.DataTree:
        """`xarray.DataTree` for ArviZ with the group ``posterior``, as that of `bayesimp.Imputations`."""
        responses, fixed, random = map(list, self.names)
        effects, d = effect_names(responses, random), self.draws
        coords = {
            "chain": np.arange(d.chains), "draw": np.arange(d.draws), "fixed": fixed, "response": responses,
            "response_2": responses, "effect": effects, "effect_2": effects,
        }  # fmt: skip
        sample = ("chain", "draw")
        posterior = xr.Dataset(
            {
                "beta": ((*sample, "fixed", "response"), d.beta),
                "Sigma": ((*sample, "response", "response_2"), d.Sigma),
                "Psi": ((*sample, "effect", "effect_2"), d.Psi),
            },
            coords=coords,
        )
        tree = xr.DataTree.from_dict({"/posterior": posterior})
        tree.attrs.update(self.attrs)
        return tree

    def summary(self) -> Summary:
        """R-hat and effective sample sizes of the parameters."""
        parameters = diagnose(self.tree["posterior"].to_dataset())
        none = pd.DataFrame(columns=parameters.columns, dtype=float)
        return Summary(parameters, none, self.events, self.m, self.draws.draws, extends=False)


def working_priors(
    priors: pr.Priors, working: Working, random: Sequence[str], who: str
) -> tuple[pr.Priors, list[Event]]:
    """The priors on the working scale, as in joint/one_factor.py, and events about the priors of slopes.

    Raises
    ------
    SpecificationError
        The Gibbs sampler does not take the priors; `who` says what needs it.
    """
    scale = working.scale
    Sigma, Psi = pr.resolve(priors.Sigma, scale.s, "Sigma"), scale.Psi_prior(priors.Psi, "Psi")
    made = replace(priors, Sigma=pr.rescale(Sigma, scale.s), Psi=scale.working_Psi_prior(Psi))
    if not (is_conjugate(made.Sigma) and is_conjugate(made.Psi)):
        raise SpecificationError(
            f"The priors '{priors.name}' are not conditionally conjugate, but {who} by Gibbs sampling. Use "
            "InverseWishart, HuangWand, Diagonal of HalfT or InverseWishart, or Fixed."
        )
    no_rows = np.empty((0, len(random)))
    events = check_slopes(Psi, scale, scale.s, working.statistics.clusters, "Psi", random, no_rows)
    return made, events


def information(
    st: SufficientStatistics, responses: tuple[str, ...], psi_is_known: bool, observed: str = "observed in"
) -> list[Event]:
    """What the cells say about the model, as joint/information.py asks of the rows.

    Raises
    ------
    DataError
        A response is observed in one cluster only, although Psi is to be estimated.
    """
    seen = np.zeros((st.clusters, st.r), dtype=np.int64)
    np.add.at(seen, st.cell_cluster, st.patterns[st.cell_pattern] * st.cell_rows[:, None])
    events: list[Event] = []
    for k, name in enumerate(() if psi_is_known else responses):
        if (seen[:, k] > 0).sum() == 1:
            raise DataError(
                f"'{name}' is {observed} only 1 of {st.clusters} clusters ({seen[:, k].max():,} rows), so its variance "
                "between clusters (Psi) cannot be estimated. Leave it out of the formula, or fix Psi."
            )
        events += few_clusters(name, seen[:, k], f"Psi[{name}]", "clusters")
    cells = st.patterns[st.cell_pattern]
    events += never_together(responses, cells, "Sigma", "row", "residual")
    return (
        events
        if psi_is_known
        else events + never_together(responses, seen > 0, "Psi", "cluster", "cluster-effect")
    )
