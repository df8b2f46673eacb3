"""How far the data have moved the prior: standard deviations and correlations of Sigma and Psi."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesimp.diagnostics.prior_draws import draw_covariance, is_proper
from bayesimp.errors import SpecificationError
from bayesimp.plots._style import BLUE, ORANGE, SMALL, chosen, density, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bayesimp.imputations import Imputations

__all__ = ["plot_prior_posterior"]

DRAWS = 20_000
WHERE = {"Sigma": "within", "Psi": "between"}


def plot_prior_posterior(
    imp: Imputations,
    var_names: Sequence[str] | str | None = None,
    *,
    correlations: bool = True,
    at_most: int = 12,
    seed: int = 0,
) -> Figure:
    """Prior beside posterior of the standard deviations and correlations within and between clusters.

    Where the two look alike the data say little, and another prior would give another answer. An improper
    prior (Sigma in `priors.jomo`) has no density to show.

    Parameters
    ----------
    imp
        Imputations.
    var_names
        ``"Sigma"`` (within clusters), ``"Psi"`` (between clusters); both by default.
    correlations
        Whether to show correlations too.
    at_most
        Panels. Where there would be more, those are shown whose posterior is nearest to the prior (largest
        overlap of the two densities), and the title says so.
    seed
        For the draws from the prior.

    Raises
    ------
    SpecificationError
        Other names; imputations without the model they came from; covariances that are fixed.
    """
    import matplotlib.pyplot as plt

    quantities = _quantities(imp, chosen(var_names, list(WHERE), "a covariance matrix"), correlations, seed)
    chosen(None, list(quantities), "a standard deviation or correlation that is not fixed")
    shown = sorted(quantities, key=lambda name: -_overlap(*quantities[name]))[:at_most]
    shown = [name for name in quantities if name in shown]
    columns = min(len(shown), 4)
    lines = -(-len(shown) // columns)
    width = max(2.9, 0.09 * max(len(line) for name in shown for line in name.splitlines()))
    figure, axes = plt.subplots(
        lines,
        columns,
        figsize=(max(width * columns, 5), 1.1 + 1.9 * lines),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, shown, strict=False):
        _panel(ax, name, *quantities[name])
    title = f"Prior '{imp.tree.attrs['priors_name']}' beside the posterior"
    if len(shown) < len(quantities):
        title += f": {len(shown)} of {len(quantities)} quantities, those that the data moved least"
    figure.suptitle(title, fontsize="medium")
    handles, texts = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def _quantities(imp: Imputations, names: list[str], correlations: bool, seed: int) -> dict:
    """Name of the quantity -> (draws from the prior, from the posterior, limits of the axis or None)."""
    model = getattr(imp._run, "model", None)
    if model is None:
        raise SpecificationError(
            "These imputations do not carry the model they came from, so not its priors."
        )
    rng = np.random.default_rng(seed)
    out = {}
    for name in names:
        posterior = imp.tree["posterior"].to_dataset()[name]
        labels = [_tidy(str(v)) for v in posterior[posterior.dims[-2]].values]
        S = posterior.values.reshape(-1, len(labels), len(labels))
        prior = getattr(model._resolved, name)
        P = draw_covariance(rng, prior, len(labels), DRAWS) if is_proper(prior, len(labels)) else None
        for kind, a, b in _entries(len(labels), correlations):
            draws = [np.empty(0) if M is None else _entry(M, a, b) for M in (P, S)]
            if min(np.ptp(x) for x in draws if len(x)) > 0:
                pair = labels[a] if a == b else _joined(labels[a], labels[b])
                out[f"{kind} {WHERE[name]}\n{pair}"] = (*draws, (-1.0, 1.0) if a != b else None)
    return out


def _entries(d: int, correlations: bool):
    yield from (("sd", k, k) for k in range(d))
    if correlations:
        yield from (("correlation", a, b) for a in range(d) for b in range(a + 1, d))


def _entry(M, a: int, b: int):
    """Standard deviation (a = b) or correlation, of each of the draws M (size, d, d)."""
    return np.sqrt(M[:, a, a]) if a == b else M[:, a, b] / np.sqrt(M[:, a, a] * M[:, b, b])


def _joined(a: str, b: str) -> str:
    return f"{a}, {b}" if len(a) + len(b) < 28 else f"{a},\n{b}"


def _tidy(effect: str) -> str:
    return effect.removesuffix(":Intercept")


def _limits(prior, posterior, limits) -> tuple[float, float]:
    """All but the far tails: 99 % of the posterior and 75 % of the prior, which may have no mean."""
    if limits is not None:
        return limits
    if len(prior) == 0:
        return 0.0, float(1.1 * np.quantile(posterior, 0.99))
    return 0.0, float(
        max(1.1 * np.quantile(posterior, 0.99), min(np.quantile(prior, 0.75), 4 * posterior.max()))
    )


def _overlap(prior, posterior, limits) -> float:
    if len(prior) == 0:
        return 0.0
    edges = np.linspace(*_limits(prior, posterior, limits), 41)
    p, q = (np.histogram(x, edges)[0] / len(x) for x in (prior, posterior))
    return float(np.minimum(p, q).sum())


def _panel(ax: Axes, name: str, prior, posterior, limits) -> None:
    low, high = _limits(prior, posterior, limits)
    for x, colour, style, what in ((prior, ORANGE, "--", "prior"), (posterior, BLUE, "-", "posterior")):
        grid, height = density(x, (low, high))
        ax.plot(grid, height, style, color=colour, label=what)
        ax.fill_between(grid, height, color=colour, alpha=0.15, linewidth=0)
    beyond = (prior > high).mean() if len(prior) else 0.0
    spaced(ax)
    ax.set_xlim(low, high)
    ax.set_ylim(bottom=0)
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.set_title(name, fontsize=SMALL)
    if len(prior) == 0:
        ax.set_xlabel("the prior is improper", fontsize=SMALL)
    if beyond >= 0.005:
        ax.set_xlabel(f"{beyond:.0%} of the prior lie beyond", fontsize=SMALL)
