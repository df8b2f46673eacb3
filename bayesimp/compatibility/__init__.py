"""Compatibility of a joint model with the conditional models of fully conditional specification (FCS).

    implied_conditional     the conditional model of one variable, for any cluster
    joint_from_conditionals the reverse: the joint model with given conditionals, if there is one
    contextual_bound        the largest slope on a cluster sum that a joint model allows
    implied_prior           the prior on a conditional model's parameters that a joint prior implies
    predictive_draws        the two models' predictions from the same complete data
    diagnose                how much the conditional models vary between the clusters of your own data

Figures: `plots.plot_implied_conditionals`, `plot_implied_prior`, `plot_predictive_qq`, `plot_variance_priors`,
and ``.plot()`` of a diagnosis.
"""

from bayesimp.compatibility.diagnose import Diagnosis, diagnose
from bayesimp.compatibility.implied import Conditional, contextual_bound, implied_conditional
from bayesimp.compatibility.inverse import JointFromConditionals, joint_from_conditionals
from bayesimp.compatibility.predictive import PredictiveDraws, predictive_draws, simulate_pair
from bayesimp.compatibility.priors import ImpliedPrior, implied_prior
from bayesimp.compatibility.published import kunkel_kaizar

__all__ = [
    "Conditional", "Diagnosis", "ImpliedPrior", "JointFromConditionals", "PredictiveDraws",
    "contextual_bound", "diagnose", "implied_conditional", "implied_prior", "joint_from_conditionals",
    "kunkel_kaizar", "predictive_draws", "simulate_pair",
]  # fmt: skip
