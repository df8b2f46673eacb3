"""Codes by which kernels identify a response's family and link; the other files of this folder have the densities."""

__all__ = ["BETA", "CATEGORICAL", "GAMMA", "HURDLE_NEGATIVE_BINOMIAL", "HURDLE_POISSON", "INVERSE_GAUSSIAN", "LOGIT",
           "LOGNORMAL", "NEGATIVE_BINOMIAL", "NORMAL", "ORDINAL", "POISSON", "PROBIT", "STUDENT",
           "TRUNCATED_NEGATIVE_BINOMIAL", "TRUNCATED_POISSON", "YEO_JOHNSON", "ZERO_INFLATED_NEGATIVE_BINOMIAL",
           "ZERO_INFLATED_POISSON"]  # fmt: skip

# families from NEGATIVE_BINOMIAL up to, but not including, ORDINAL have one shape
LOGIT, PROBIT, POISSON, NEGATIVE_BINOMIAL, GAMMA, INVERSE_GAUSSIAN, BETA, LOGNORMAL = range(8)
ORDINAL, CATEGORICAL = range(8, 10)
STUDENT, ZERO_INFLATED_POISSON, ZERO_INFLATED_NEGATIVE_BINOMIAL = range(10, 13)  # mixtures (mixtures.py)
HURDLE_POISSON, HURDLE_NEGATIVE_BINOMIAL = range(13, 15)  # also there
YEO_JOHNSON = 15  # also there: normal given its parameter (yeo_johnson.py)
TRUNCATED_POISSON, TRUNCATED_NEGATIVE_BINOMIAL = range(16, 18)  # hurdle rows above zero (truncated.py)
NORMAL = -1
