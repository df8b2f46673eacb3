"""Answers beyond coefficients: marginal means, effects, variance explained, a meta-analysis; shown in docs/estimands.md.

Run:  python examples/estimands.py        (the packaged exam data; no files are written)
"""

import warnings

import numpy as np
import pandas as pd

import bayesimp as bi

pd.set_option("display.width", 120, "display.max_columns", 20)
exam = bi.IncompleteData(bi.load_exam(), cluster="school")
imp = bi.JointNormal(exam, "written + course ~ gender + (1 | school)").impute(m=20, seed=1)
fits = imp.analyse("written ~ course + gender + (1 | school)")


def show(call):
    print(f">>> {call}\n{eval(call)}\n")  # the calls below


show('fits.marginal_means("gender", at={"course": 70}, df_complete="satterthwaite")')
show('fits.marginal_means("gender").contrasts()')
show("fits.explained()")
show(
    'fits.functions({"ten marks of course work, in sds between schools": "10 * course / `sd(Intercept | school)`"})'
)

# whether the written mark is 45 or more, in every completed table
tables = [table.assign(passed=np.where(table["written"] >= 45, 1, 0)) for table in imp]
logistic = bi.fit_each(tables, "passed ~ course + gender + (1 | school)", family="bernoulli")
show('logistic.marginal_means("gender", weights="observed")')
show('logistic.marginal_means("gender", weights="observed", random_effects="zero")')
show('logistic.marginal_effects({"gender": None, "course": 10})')
show("logistic.pool().tidy(exponentiate=True).iloc[:, :8]")

with warnings.catch_warnings():
    warnings.simplefilter("ignore", bi.StatisticalWarning)  # one school has two pupils
    studies = bi.pool_by_study(imp, "written ~ course", "school")
show("studies.tidy().tail(1)")
