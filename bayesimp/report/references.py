"""References that reports cite, and the equations of every engine."""

from __future__ import annotations

__all__ = ["CITED", "EQUATIONS", "NAMES", "SOURCES"]

CITED = {
    "TARMOS": "Lee KJ, Tilling KM, Cornish RP, Little RJA, Bell ML, Goetghebeur E, Hogan JW, Carpenter JR. "
              "Framework for the treatment and reporting of missing data in observational studies. J Clin "
              "Epidemiol 2021; 134: 79-88.",
    "Sterne": "Sterne JAC, White IR, Carlin JB, Spratt M, Royston P, Kenward MG, Wood AM, Carpenter JR. Multiple "
              "imputation for missing data in epidemiological and clinical research: potential and pitfalls. "
              "BMJ 2009; 338: b2393.",
    "CONSORT": "Schulz KF, Altman DG, Moher D. CONSORT 2010 statement. BMJ 2010; 340: c332.",
    "Rubin": "Rubin DB. Multiple Imputation for Nonresponse in Surveys. Wiley, 1987.",
    "Barnard": "Barnard J, Rubin DB. Small-sample degrees of freedom with multiple imputation. Biometrika 1999; "
               "86: 948-955.",
    "White": "White IR, Royston P, Wood AM. Multiple imputation using chained equations. Stat Med 2011; 30: 377-399.",
    "von Hippel": "von Hippel PT. How many imputations do you need? A two-stage calculation using a quadratic "
                  "rule. Sociol Methods Res 2020; 49: 699-718.",
    "Vehtari": "Vehtari A, Gelman A, Simpson D, Carpenter B, Buerkner P-C. Rank-normalization, folding, and "
               "localization: an improved R-hat. Bayesian Anal 2021; 16: 667-718.",
    "Schafer": "Schafer JL, Yucel RM. Computational strategies for multivariate linear mixed-effects models with missing "
               "values. J Comput Graph Stat 2002; 11: 437-457.",
    "Kunkel": "Kunkel D, Kaizar EE. A comparison of existing methods for multiple imputation in individual "
              "participant data meta-analysis. Stat Med 2017; 36: 3507-3532.",
    "Carpenter": "Carpenter JR, Goldstein H, Kenward MG. REALCOM-IMPUTE software for multilevel multiple imputation with "
                 "mixed response types. J Stat Softw 2011; 45(5).",
    "Roger": "Carpenter JR, Roger JH, Kenward MG. Analysis of longitudinal trials with protocol deviation: a framework "
             "for relevant, accessible assumptions, and inference via multiple imputation. J Biopharm Stat 2013; 23: "
             "1352-1371.",
    "Bartlett": "Bartlett JW, Seaman SR, White IR, Carpenter JR. Multiple imputation of covariates by fully conditional "
                "specification: accommodating the substantive model. Stat Methods Med Res 2015; 24: 462-487.",
    "Ibrahim": "Ibrahim JG, Chen M-H, Lipsitz SR. Bayesian methods for generalized linear models with covariates "
               "missing at random. Can J Stat 2002; 30: 55-78.",
}  # fmt: skip

NAMES = {
    "JointNormal": "a joint multilevel normal model",
    "JointLatent": "a joint multilevel normal model with latent normal variables for variables that are not normal",
    "JointGLMM": "a joint model, a product of the analysis model and generalised mixed models of the incomplete "
    "covariates",
    "FCS": "chained equations (fully conditional specification) with a conditional model for each incomplete variable",
    "FromPyMC": "a Bayesian model written for these data in PyMC, in which missing cells are unknowns",
}

SOURCES = {
    "JointNormal": ("Schafer", "Kunkel"),
    "JointLatent": ("Schafer", "Carpenter"),
    "JointGLMM": ("Ibrahim", "Bartlett"),
    "FCS": ("White", "Kunkel"),
    "FromPyMC": (),
}

EQUATIONS = {
    "JointNormal": """\
Y_i = X_i \u03b2 + Z_i B_i + E_i,      cluster i = 1..m
rows of E_i ~ N(0, \u03a3),      vec(B_i) ~ N(0, \u03a8)
Y_i: the variables on the left of the formula;  X_i, Z_i: columns of its fixed and random part
missing cells are drawn from their normal distribution given the parameters and all observed cells of their cluster""",
    "JointLatent": """\
L_i = X_i \u03b2 + Z_i B_i + E_i,      cluster i = 1..m
rows of E_i ~ N(0, \u03a3), or N(0, \u03a3_i) where clusters have their own,      vec(B_i) ~ N(0, \u03a8)
y = l for normal variables;  y = 1 where l > 0 (binary);  y = k where l lies between thresholds k and k + 1 (ordinal);
y = the level with the largest of its latent variables (nominal)""",
    "JointGLMM": """\
p(y, x_1, ..., x_p) = p(y given x_1..x_p, b) p(x_p given x_1..x_(p-1), b) ... p(x_1 given b)
each factor: g(E y_ij) = x_ij' \u03b2 + z_ij' b_i,      b_i ~ N(0, \u03a8)
missing cells are drawn from the product of all factors in which they stand""",
    "FCS": """\
for each incomplete variable y given all others:
g(E y_ij) = x_ij' \u03b2 + z_ij' b_i,      b_i ~ N(0, \u03a8)
normal variables: y_ij = x_ij' \u03b2 + z_ij' b_i + e_ij,  e_ij ~ N(0, \u03c3\u00b2)
the variables are visited in turn: parameters are drawn given the completed table, then the missing values""",
    "FromPyMC": """\
p(\u03b8, x_mis given x_obs)  is proportional to  p(x_obs, x_mis given \u03b8) p(\u03b8)
as the user's PyMC model defines both; an imputation is the x_mis of a kept draw""",
}
