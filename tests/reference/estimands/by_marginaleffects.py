"""Average slopes, comparisons and predictions of the package marginaleffects for given tables.

Needs a separate environment: pip install marginaleffects statsmodels "polars<2". Run in this folder: python
by_marginaleffects.py. Reads tables.csv (of estimands.R), writes marginaleffects.json.
"""

import json
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import statsmodels.formula.api as smf
from marginaleffects import avg_comparisons, avg_predictions, avg_slopes, datagrid, predictions

KEPT = ("term", "contrast", "arm", "sex", "estimate", "std_error")


def rows(result):
    table = result.to_pandas() if hasattr(result, "to_pandas") else result.data.to_pandas()
    return json.loads(
        table[[name for name in KEPT if name in table]].to_json(orient="records", double_precision=10)
    )


def asked(fit, table):
    grid = datagrid(model=fit, arm=["a", "b", "c"], x=2, sex="F", site="r")
    return {
        "slopes": rows(avg_slopes(fit)),
        "slopes_by_sex": rows(avg_slopes(fit, variables="x", by="sex")),
        "step": rows(avg_comparisons(fit, variables={"x": 2})),
        "ratio": rows(avg_comparisons(fit, variables="arm", comparison="ratio")),
        "average": rows(avg_predictions(fit)),
        "average_by_arm": rows(avg_predictions(fit, by="arm")),
        "predictions": rows(predictions(fit, newdata=grid)),
    }


FACTORS = dict.fromkeys(("arm", "sex", "site"), "category")
frame = pd.read_csv("tables.csv").astype(FACTORS)
tables = [t.drop(columns=".imp").reset_index(drop=True) for _, t in frame.groupby(".imp")]
out = {"logit": [], "ols": []}
for table in tables:
    out["logit"].append(asked(smf.logit("s ~ arm*sex + x + I(x**2) + site", table).fit(disp=0), table))
    out["ols"].append(asked(smf.ols("y ~ arm*sex + x + I(x**2) + site", table).fit(), table))
out["session"] = {name: version(name) for name in ("marginaleffects", "statsmodels", "polars")}
Path("marginaleffects.json").write_text(json.dumps(out, indent=1) + "\n")
