"""Joint or conditional? What a joint model implies for the conditional models of fully conditional specification.

    implied_conditional     the conditional model of one variable, for any cluster
    joint_from_conditionals and back: the joint model of given conditionals, if there is one
    contextual_bound        the largest slope on a cluster sum that a joint model allows
    implied_prior           the prior that a joint prior implies on a conditional model's parameters
    predictive_draws        the two models' predictions from the same complete data
    diagnose                how far the conditional models vary over the clusters of your own data

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
