"""Quantities by which posteriors of joint models are compared."""

import numpy as np


def quantities(tree, parts=("Sigma", "Psi")) -> dict[str, np.ndarray]:
    """Quantity -> (chains, draws): beta, log variances and correlations, and means and sds of imputed values.

    Quantities that are constant or not finite, such as those of clusters without missing values, are left out.
    """
    post, stats = tree["posterior"], tree["imputed_stats"]
    out = {f"beta{i}": post.beta.values[:, :, *i] for i in np.ndindex(post.beta.shape[2:])}
    for part in parts:
        S = post[part].values
        for i, j in zip(*np.tril_indices(S.shape[-1]), strict=True):
            scale = np.sqrt(S[..., i, i] * S[..., j, j])
            out[f"{part}[{i},{j}]"] = np.log(S[..., i, i]) if i == j else S[..., i, j] / scale
    for part in ("mean", "sd"):
        x = stats[part].values
        out |= {f"imputed {part}{i}": x[:, :, *i] for i in np.ndindex(x.shape[2:])}
    return {k: x for k, x in out.items() if np.isfinite(x).all() and np.ptp(x) > 0}
