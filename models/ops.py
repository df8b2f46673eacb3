"""PyTensor Ops around numba kernels, each with its derivative in closed form.

    marginal(beta, Sigma, Psi, data)                   log p(y_obs | beta, Sigma, Psi)    density_ops.py
    inverse_wishart, huang_wand, lkj (S, numbers)      log p(S)                           density_ops.py
    from_free(free, precision), to_free(S, precision)  free parameters <-> S              free_ops.py
    effects(u, Psi)                                    u L', L L' = Psi                   product_ops.py
    MatrixProduct()(A, B)                              A B with few rows or columns       product_ops.py

NUTS in PyMC costs compilation time for every node: an Op of linear algebra or indexing takes a second or more of LLVM,
whereas a kernel that numba keeps on disk takes none. Therefore a density is one node, which includes its gradient.
"""

from bayesimp.models.density_ops import huang_wand, inverse_wishart, lkj, marginal
from bayesimp.models.free_ops import from_free, to_free
from bayesimp.models.product_ops import MatrixProduct, effects

__all__ = [
    "MatrixProduct",
    "effects",
    "from_free",
    "huang_wand",
    "inverse_wishart",
    "lkj",
    "marginal",
    "to_free",
]
