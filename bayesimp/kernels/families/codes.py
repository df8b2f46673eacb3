"""Numbers by which kernels know a response's family and link; the densities are in the other files of this folder."""

__all__ = ["CATEGORICAL", "GAMMA", "INVERSE_GAUSSIAN", "LOGIT", "NEGATIVE_BINOMIAL", "NORMAL", "ORDINAL", "POISSON",
           "PROBIT"]  # fmt: skip

LOGIT, PROBIT, POISSON, NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, ORDINAL, CATEGORICAL = range(8)
NORMAL = -1
