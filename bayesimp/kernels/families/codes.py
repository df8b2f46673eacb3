"""Numbers by which kernels know a response's family and link; the densities are in the other files of this folder."""

__all__ = ["BETA", "CATEGORICAL", "GAMMA", "INVERSE_GAUSSIAN", "LOGIT", "NEGATIVE_BINOMIAL", "NORMAL", "ORDINAL",
           "POISSON", "PROBIT", "STUDENT", "ZERO_INFLATED_NEGATIVE_BINOMIAL", "ZERO_INFLATED_POISSON"]  # fmt: skip

LOGIT, PROBIT, POISSON, NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, BETA, ORDINAL, CATEGORICAL = range(9)
STUDENT, ZERO_INFLATED_POISSON, ZERO_INFLATED_NEGATIVE_BINOMIAL = range(9, 12)  # mixtures (mixtures.py)
NORMAL = -1
