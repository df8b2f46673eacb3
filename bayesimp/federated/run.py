"""`combine`: the posterior of the joint normal model given the releases of all sites."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesimp import priors as pr
from bayesimp.arguments import new_seed, whole
from bayesimp.diagnostics.convergence import Summary, diagnose
from bayesimp.errors import DataError, SamplingError, SpecificationError, must_be
from bayesimp.events import Event, EventTable
from bayesimp.federated.merge import check_together, working_input
from bayesimp.federated.parameters import SharedParameters
from bayesimp.federated.release import SiteRelease
from bayesimp.joint.gibbs import JointDraws, initial_state, sample_gibbs
from bayesimp.joint.information import few_clusters, never_together
from bayesimp.joint.options import draws_per_imputation
from bayesimp.joint.scale import Working
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.layout import Printed
from bayesimp.notation import effect_names
from bayesimp.priors.gibbs import is_conjugate
from bayesimp.progress import progress_bar
from bayesimp.scale.slopes import check_slopes

__all__ = ["FederatedRun", "combine"]


@dataclass(frozen=True)
class FederatedRun(Printed):
    """The posterior given the releases of all sites.

    Attributes
    ----------
    releases
        The releases, in the order of site names.
    draws
        beta (chains, draws, p, r), Sigma (.., r, r) and Psi (.., rq, rq) in the units of the data.
    working
        The sampler's input.
    m, seed, thin, spacing
        Imputation k uses draw (k // chains + 1) * spacing - 1 of chain k % chains.
    seconds
        Time spent sampling.
    log
        What could not be done as specified, at the sites and here.
    """

    releases: tuple[SiteRelease, ...]
    draws: JointDraws
    working: Working
    m: int
    seed: int
    thin: int
    spacing: int
    seconds: float
    log: tuple[Event, ...]

    @property
    def events(self) -> pd.DataFrame:
        """The log, one row for each event."""
        return EventTable([e.as_dict() for e in self.log], columns=["kind", "where", "message", "count"])

    @cached_property
    def tree(self) -> xr.DataTree:
        """`xarray.DataTree` for ArviZ with the group ``posterior``, as that of `bayesimp.Imputations`."""
        first, d = self.releases[0], self.draws
        responses = list(first.agreement.responses)
        effects = effect_names(responses, list(first.random))
        coords = {
            "chain": np.arange(d.chains), "draw": np.arange(d.draws), "fixed": list(first.fixed),
            "response": responses, "response_2": responses, "effect": effects, "effect_2": effects,
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

    @property
    def attrs(self) -> dict[str, Any]:
        """What makes the run repeatable: agreement, releases, seed, sizes, versions."""
        first = self.releases[0]
        return {
            "model": "JointNormal, federated", "agreement": json.dumps(first.agreement.record()),
            "releases": json.dumps({each.site: each.sha256 for each in self.releases}), "m": self.m,
            "seed": self.seed, "thin": self.thin, "spacing": self.spacing, "chains": self.draws.chains,
            "draws": self.draws.draws, "bayesimp_version": version("bayesimp"), "numpy_version": np.__version__,
        }  # fmt: skip

    def summary(self) -> Summary:
        """R-hat and effective sample sizes of the parameters. Those of imputed values are not known here."""
        parameters = diagnose(self.tree["posterior"].to_dataset())
        none = pd.DataFrame(columns=parameters.columns, dtype=float)
        return Summary(parameters, none, self.events, self.m, self.draws.draws)

    @cached_property
    def parameters(self) -> SharedParameters:
        """The parameters to be sent to the sites."""
        first, d, k = self.releases[0], self.draws, np.arange(self.m)
        at = k % d.chains, (k // d.chains + 1) * self.spacing - 1
        return SharedParameters(
            first.agreement, {each.site: each.sha256 for each in self.releases}, first.fixed, first.random,
            d.beta[at], d.Sigma[at], d.Psi[at], self.working.scale, self.seed, self.log,
        )  # fmt: skip

    def _said(self) -> str:
        rows = sum(each.counts["released"] for each in self.releases)
        return "\n".join([
            f"FederatedRun: {self.releases[0].agreement.formula}",
            f"  {rows:,} rows in {self.working.statistics.clusters:,} clusters, released by {len(self.releases)} sites "
            f"({', '.join(each.site for each in self.releases)})",
            f"  {self.draws.chains} chains x {self.draws.draws} draws, seed {self.seed}; m = {self.m}",
            f"  {len(self.log)} event{'' if len(self.log) == 1 else 's'}" + (": see .events" if self.log else ""),
        ])  # fmt: skip


def combine(
    releases: Sequence[SiteRelease],
    m: int = 20,
    *,
    seed: int | None = None,
    chains: int = 4,
    tune: int = 200,
    draws: int = 1000,
    thin: int = 1,
    workers: int | None = None,
    progress: bool | None = None,
) -> FederatedRun:
    """Draw the parameters of the joint normal model given the releases of all sites, by Gibbs sampling.

    Parameters
    ----------
    releases
        The releases of all sites, in any order.
    m
        Number of completed tables at every site.
    seed, chains, tune, draws, thin, workers, progress
        As for `bayesimp.JointNormal.impute`.

    Returns
    -------
    The run; ``run.parameters.save(path)`` is for the sites.

    Raises
    ------
    SpecificationError
        Releases that do not belong together, by site; priors that the Gibbs sampler does not support; options out of
        range.
    DataError
        The releases together do not identify the model.
    SamplingError
        A chain failed, or the run was interrupted.

    Examples
    --------
    >>> run = bi.federated.combine([bi.federated.read_release(f) for f in files], m=20, seed=1)     # doctest: +SKIP
    """
    if isinstance(releases, SiteRelease) or not isinstance(releases, list | tuple):
        raise SpecificationError("combine takes a list of releases: combine([a, b], m=20, seed=1).")
    for release in releases:
        must_be(release, "SiteRelease", "combine")
    ordered = check_together(releases)
    agreement = ordered[0].agreement
    spacing = draws_per_imputation(m, chains, thin, draws, tune)
    seed = new_seed() if seed is None else whole(seed, "seed", 0)
    working = working_input(ordered)
    priors, events = _working_priors(agreement.checked_priors, working, ordered[0].random)
    log = [
        Event(event.kind, f"site {each.site}", event.message, event.count)
        for each in ordered
        for event in each.events
    ]
    st = working.statistics
    log += _information(st, agreement.responses, priors.Psi.is_known) + events
    states = [initial_state(seed, c, priors, st.r, st.q) for c in range(chains)]
    began = time.perf_counter()
    with progress_bar(progress) as report:
        kept = sample_gibbs(
            working, priors, states, tune=tune, draws=draws, thin=thin, workers=workers, report=report
        )
    if kept.draws < draws:
        raise SamplingError("The run was interrupted and its draws were discarded. Run it again.")
    made = kept.on_data_scale(working)
    seconds = time.perf_counter() - began
    return FederatedRun(ordered, made, working, int(m), seed, thin, spacing, seconds, tuple(log))


def _working_priors(
    priors: pr.Priors, working: Working, random: Sequence[str]
) -> tuple[pr.Priors, list[Event]]:
    """The priors on the working scale, as in joint/one_factor.py, and events about the priors of slopes."""
    scale = working.scale
    Sigma, Psi = pr.resolve(priors.Sigma, scale.s, "Sigma"), scale.Psi_prior(priors.Psi, "Psi")
    made = replace(priors, Sigma=pr.rescale(Sigma, scale.s), Psi=scale.working_Psi_prior(Psi))
    if not (is_conjugate(made.Sigma) and is_conjugate(made.Psi)):
        raise SpecificationError(
            f"The priors '{priors.name}' are not conditionally conjugate, but releases are combined by Gibbs sampling. "
            "Agree on InverseWishart, HuangWand, Diagonal of HalfT or InverseWishart, or Fixed."
        )
    no_rows = np.empty((0, len(random)))
    events = check_slopes(Psi, scale, scale.s, working.statistics.clusters, "Psi", random, no_rows)
    return made, events


def _information(st: SufficientStatistics, responses: tuple[str, ...], psi_is_known: bool) -> list[Event]:
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
                f"'{name}' was released by only 1 of {st.clusters} clusters ({seen[:, k].max():,} rows), so its variance "
                "between clusters (Psi) cannot be estimated. Agree to leave it out, or to fix Psi."
            )
        events += few_clusters(name, seen[:, k], f"Psi[{name}]", "clusters")
    observed = st.patterns[st.cell_pattern]
    events += never_together(responses, observed, "Sigma", "row", "residual")
    return (
        events
        if psi_is_known
        else events + never_together(responses, seen > 0, "Psi", "cluster", "cluster-effect")
    )
