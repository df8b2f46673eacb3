"""Tables of several sites that may not share rows."""

import numpy as np
import pandas as pd

from bayesimp import federated as fed

FORMULA = "y + z ~ x + arm + (1 + x | g)"
LEVELS = {"arm": ("control", "low", "high")}
AGREED = fed.Agreement(FORMULA, LEVELS)
SITES = ("A", "B", "C", "D")


def pooled(seed=1, clusters=16, rows=200, holes=0.25, far=0.0) -> pd.DataFrame:
    """All rows; site D lacks z. With many rows, cells are so large that nothing is withheld.

    far: origin of the numbers, in standard deviations.
    """
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(clusters), rows)
    n = len(g)
    u = rng.normal(size=(clusters, 3))[g]
    x, arm = rng.normal(far, 1.0, n), rng.integers(0, 3, n)
    y = far + 0.5 * (x - far) + 0.4 * arm + u[:, 0] + rng.normal(size=n)
    z = 10 * far - 5 * y + (x - far) * (1 + u[:, 1]) + 8 * u[:, 2] + 10 * rng.normal(size=n)
    frame = pd.DataFrame({"g": g, "x": x, "arm": np.array(LEVELS["arm"])[arm], "y": y, "z": z})
    frame.loc[rng.random(n) < holes, "y"] = np.nan
    frame.loc[(rng.random(n) < holes) | (g >= clusters * 3 // 4), "z"] = np.nan
    frame["site"] = np.array(SITES)[g * 4 // clusters]
    return frame


def parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables by site, without the column of the site."""
    return {str(site): part.drop(columns="site") for site, part in frame.groupby("site")}


def releases(frame: pd.DataFrame, agreed: fed.Agreement = AGREED, **options) -> list[fed.SiteRelease]:
    """The releases of all sites."""
    return [fed.export_site(part, agreed, site, **options) for site, part in parts(frame).items()]
