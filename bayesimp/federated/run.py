"""`combine`: the posterior of the joint normal model given the releases of all sites."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np

from bayesimp.arguments import new_seed, whole
from bayesimp.errors import SamplingError, SpecificationError, must_be
from bayesimp.events import Event, counted_events
from bayesimp.federated.merge import check_together, working_input
from bayesimp.federated.parameters import SharedParameters
from bayesimp.federated.posterior import PosteriorRun, information, working_priors
from bayesimp.federated.release import SiteRelease
from bayesimp.joint.gibbs import initial_state, sample_gibbs
from bayesimp.joint.options import draws_per_imputation
from bayesimp.progress import progress_bar

__all__ = ["FederatedRun", "combine"]


@dataclass(frozen=True)
class FederatedRun(PosteriorRun):
    """The posterior given the releases of all sites.

    Attributes
    ----------
    releases
        The releases, in the order of site names.
    """

    releases: tuple[SiteRelease, ...]

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Names of the responses and of the columns of X and Z."""
        first = self.releases[0]
        return first.agreement.responses, first.fixed, first.random

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

    @cached_property
    def parameters(self) -> SharedParameters:
        """The parameters to be sent to the sites."""
        first, d, at = self.releases[0], self.draws, self.places
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
            f"  {counted_events(len(self.log))}",
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
    priors, events = working_priors(
        agreement.checked_priors, working, ordered[0].random, "releases are combined"
    )
    log = [
        Event(event.kind, f"site {each.site}", event.message, event.count)
        for each in ordered
        for event in each.events
    ]
    st = working.statistics
    log += information(st, agreement.responses, priors.Psi.is_known, "released by") + events
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
    return FederatedRun(made, working, int(m), seed, thin, spacing, seconds, tuple(log), ordered)
