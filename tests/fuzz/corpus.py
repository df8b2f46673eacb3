"""Tables that once failed, reduced to the cause, and grouped by fault."""

from __future__ import annotations

from typing import Any

from tests.fuzz.tables import Recipe

Columns = tuple[tuple[str, str, str, str], ...]


def fcs(
    seed: int, sizes: tuple[int, ...], columns: Columns, families: dict | None = None, **options: Any
) -> Recipe:
    return Recipe(seed, sizes, "int", "range", columns, "fcs", families or {}, options)


def joint(seed: int, sizes: tuple[int, ...], columns: Columns, left: list[str], right: list[str]) -> Recipe:
    return Recipe(seed, sizes, "int", "range", columns, "joint", {}, {"left": left, "right": right})


TWENTY = (8, 8, 8, 1, 4, 5, 3, 4, 6, 7, 5, 2, 6, 7, 2, 5, 3, 8, 1, 4)
TWENTY_MORE = (4, 3, 8, 7, 8, 6, 8, 2, 8, 5, 6, 2, 8, 1, 6, 6, 8, 5, 2, 7)
ONES = (1,) * 8
SOME = (3, 3, 7, 3, 8, 8, 4, 4)


def unlike(first: str, *others: tuple[str, str, str, str]) -> Columns:
    return (("y", first, "normal", "sporadic"), *others)


CORPUS = {
    "sparse covariates have no NumPy dtype of their own": fcs(
        2123,
        (15, 27, 19),
        (("né", "sparse", "few values", "none"), ("chain", "intervals", "normal", "sporadic")),
        {"né": "ordinal"},
    ),
    "a categorical y and a y_2 share a dimension": fcs(
        1101, (2, 3, 3, 3, 3, 2, 3, 2), unlike("mixed levels", ("y_2", "float64", "collinear", "sporadic"))
    ),
    "levels that are not numbers declared a number": fcs(
        438, SOME, (("y", "tuples", "normal", "sporadic"), ("x", "float64", "normal", "none")), {"y": "gamma"}
    ),
    "1e300 overflows where a variable is incomplete": fcs(
        4, TWENTY, (("d", "objects", "huge", "systematic"),)
    ),
    "1e300 overflows in the rank of a design": joint(
        41, TWENTY, (("log", "float64", "huge", "none"), ("x", "Float64", "normal", "none")), ["x"], ["log"]
    ),
    "1e300 overflows in the scale of a response": joint(
        350, (8, 5, 2, 6, 7, 6, 3, 6), (("y", "float64", "huge", "both"),), ["y"], []
    ),
    "bounds are not kept by sti": fcs(
        509,
        (24, 19, 19, 20, 10),
        (("b", "float32", "normal", "heavy"),),
        methods={"b": "sti"},
        bounds={"b": "observed"},
    ),
    "2stage finds too few clusters in its first cycle": fcs(
        38, (4, 6, 4, 6, 1), (("c", "Int32", "normal", "sporadic"),), methods={"c": "2stage"}
    ),
    "2stage of a two-valued variable finds too few clusters": fcs(
        176,
        (3, 3, 3, 3, 1, 3, 2, 2, 2, 3, 3, 1, 2, 1, 1, 3, 1, 2, 1, 2),
        (("x:y", "float64", "two values", "sporadic"),),
        methods={"x:y": "2stage"},
    ),
    "sti has no degree of freedom, found in its first cycle": fcs(
        1738, ONES, (("d", "Int32", "normal", "sporadic"),), methods={"d": "sti"}
    ),
    "pmm of 1e15 + noise is explained exactly": fcs(
        2065, (6, 4, 8, 4, 3, 4, 5, 1), (("e", "arrow", "large", "sporadic"),), methods={"e": "pmm"}
    ),
    "fixed effects of a systematically missing variable are not identified": fcs(
        159,
        SOME,
        (
            ("b", "Float64", "binary", "systematic"),
            ("c", "tuples", "binary", "both"),
            ("d", "numeric category", "normal", "sporadic"),
            ("e", "str", "normal", "sporadic"),
            ("a", "decimals", "normal", "systematic"),
        ),
    ),
    "fixed effects of a table of one row a cluster are not identified": fcs(
        525,
        ONES,
        (
            ("y", "numeric category", "binary", "sporadic"),
            ("chain", "arrow", "normal", "none"),
            ("x:y", "sparse", "normal", "none"),
            ("%", "objects NA", "normal", "none"),
            ("x|g", "float64", "binary", "sporadic"),
        ),
        where="x:y",
    ),
    "two clusters of two rows have no more rows than predictors": fcs(
        662, (2, 2), (("a", "float64", "few values", "both"), ("c", "objects", "tiny", "systematic"))
    ),
    "the logarithm of an inverse Gaussian in its models of others": fcs(
        999,
        (2, 6, 1, 7, 2, 2, 2, 8),
        (
            ("c", "objects", "normal", "sporadic"),
            ("a", "float64", "binary", "none"),
            ("e", "Float64", "skewed", "both"),
            ("b", "float64", "skewed", "both"),
        ),
        {"e": "inverse_gaussian"},
        ignore=True,
    ),
    "the start of a categorical variable with collinear 1e15": fcs(
        1604,
        (17, 14, 5, 26, 24, 5, 23, 20, 20, 14, 21, 16, 26, 8, 21, 14, 1, 21, 22, 3),
        (
            ("y_2", "objects", "large", "sporadic"),
            ("[a]", "float64", "collinear", "systematic"),
            ("np", "numeric category", "normal", "heavy"),
        ),
    ),
    "sti of 1e15 + noise finds no mode in its first cycle": fcs(
        3751, (5, 6, 7, 8, 6), (("imputation", "objects", "large", "both"),), methods={"imputation": "sti"}
    ),
    "the log mean of an inverse Gaussian is 65, with a rare level": fcs(
        3961,
        TWENTY_MORE,
        (("a-b", "rare", "cluster", "none"), ("x|g", "sparse", "skewed", "systematic")),
        {"x|g": "inverse_gaussian"},
    ),
    "bounds are not kept by 2lonly, the default for cluster-level variables": fcs(
        4260,
        (1, 2, 6, 3, 3, 7, 4, 3),
        (("c", "float32", "cluster", "heavy"), ("e", "float64", "normal", "none")),
        bounds={"c": "observed"},
    ),
    "the residual variance of five small clusters leaves the positive numbers": fcs(
        2243,
        (5, 4, 5, 1, 2),
        (
            ("x|g", "sparse", "normal", "sporadic"),
            ("log", "date category", "normal", "both"),
            ("%", "Float64", "normal", "none"),
            ("1", "text objects", "constant", "sporadic"),
        ),
    ),
    "a level that is another as completed, by bayes": Recipe(
        seed=502,
        sizes=(8, 7, 5),
        label="category",
        index="repeated",
        columns=(
            ("{b}", "float32", "normal", "heavy"),
            ("np", "float32", "two values", "none"),
            ("a-b", "sparse", "count", "none"),
            ("Y", "bool objects", "cluster", "sporadic"),
            ("né", "numeric category", "cluster", "systematic"),
        ),
        engine="fcs",
        families={},
        options={},
        kind="arrow",
    ),
    "a level that is another as completed, by pmm": fcs(
        1152,
        (3, 2, 2),
        (
            ("d", "Int32", "count", "both"),
            ("a", "bool objects", "skewed", "sporadic"),
            ("e", "arrow int", "cluster", "none"),
        ),
        {"d": "poisson"},
        methods={"d": "pmm", "a": "glm"},
    ),
    "a level that is another as completed, in a block": fcs(
        2684,
        (1, 7, 6, 5, 6),
        (
            ("a", "float32", "normal", "sporadic"),
            ("b", "float64", "normal", "sporadic"),
            ("e", "category", "nearly constant", "both"),
            ("c", "arrow text", "normal", "none"),
            ("d", "date category", "normal", "sporadic"),
        ),
        {"c": "categorical"},
        blocks={"both": ["a", "b"]},
        where="c",
        ignore=True,
        order="arabic",
    ),
    "bayes of 1e15 + noise in clusters of one row": fcs(
        4777,
        (1, 1, 1, 1, 1),
        (("a", "decimals", "large", "sporadic"), ("e", "Float64", "skewed", "both")),
        methods={"a": "bayes", "e": "bayes"},
        order="arabic",
    ),
    "2stage whose clusters are separated as completed": Recipe(
        seed=176,
        sizes=(3, 3, 3, 3, 1, 3, 2, 2, 2, 3, 3, 1, 2, 1, 1, 3, 1, 2, 1, 2),
        label="tuple",
        index="range",
        columns=(
            ("x", "objects", "collinear", "none"),
            ("x:y", "float64", "two values", "sporadic"),
            ("[a]", "arrow text", "skewed", "heavy"),
        ),
        engine="fcs",
        families={},
        options={"methods": {"x:y": "2stage", "[a]": "bayes"}},
        kind="pandas",
    ),
    "2stage of clusters with one value each": fcs(
        1874,
        (4, 7, 6, 5, 1, 1, 7, 1),
        (("np", "bool objects", "binary", "sporadic"), ("I", "arrow int", "binary", "sporadic")),
        methods={"np": "2stage", "I": "iw"},
    ),
    "imputed counts too large for their integers": Recipe(
        seed=8147,
        sizes=(2, 6, 2, 5, 6, 3, 7, 5),
        label="dates",
        index="range",
        columns=(
            ("b", "objects NA", "normal", "sporadic"),
            ("e", "text objects", "count", "first clusters"),
            ("d", "rare", "skewed", "none"),
            ("c", "arrow int", "count", "systematic"),
            ("a", "str", "count", "none"),
        ),
        engine="fcs",
        families={"c": "poisson"},
        options={},
        kind="pandas",
    ),
    "a category of whole numbers declared a count": Recipe(
        seed=8909,
        sizes=(1, 1, 1),
        label="Int64",
        index="range",
        columns=(
            ("None", "mixed levels", "collinear", "none"),
            ("row_y", "sparse", "normal", "none"),
            ("C(x)", "numeric category", "large", "sporadic"),
            ("kg/m²", "str", "nested", "sporadic"),
        ),
        engine="fcs",
        families={"C(x)": "poisson"},
        options={},
        kind="pandas",
    ),
    "post of a variable of clusters that is known throughout": Recipe(
        seed=63,
        sizes=(28, 6, 18, 16, 8),
        label="text",
        index="range",
        columns=(("e", "decimals", "cluster", "sporadic"), ("d", "objects", "skewed", "none")),
        engine="fcs",
        families={"d": "inverse_gaussian"},
        options={"methods": {"e": "2lonly"}, "post": {"e": "all the smallest"}},
        kind="pandas",
    ),
    "intervals of whole numbers with missing values in polars": Recipe(
        seed=95,
        sizes=(15, 7, 15, 12, 13),
        label="float",
        index="multi",
        columns=(("chain", "Float64", "tiny", "none"), ("1", "intervals", "normal", "systematic")),
        engine="fcs",
        families={},
        options={"methods": {"1": "glm"}},
        kind="polars",
    ),
    "Arrow has a category of intervals": Recipe(
        seed=273,
        sizes=(4, 20, 5),
        label="int",
        index="range",
        columns=(
            ("np", "date category", "normal", "none"),
            ("draw", "intervals", "binary", "systematic"),
            ("né", "numeric category", "collinear", "sporadic"),
            ("a-b", "decimals", "normal", "sporadic"),
        ),
        engine="fcs",
        families={},
        options={},
        kind="arrow",
    ),
    "a log link whose predictor is constant where it is observed": fcs(
        3605,
        (4, 2, 13, 7, 25, 11, 2, 8),
        (
            ("%", "float64", "nested", "none"),
            ("mean", "arrow", "skewed", "systematic"),
            ("y_2", "float64", "normal", "none"),
            ("1", "zoned", "cluster", "none"),
        ),
        {"mean": "inverse_gaussian"},
        methods={"mean": "bayes"},
    ),
    "a log link and a level that is never observed with it": Recipe(
        seed=3544,
        sizes=(7, 12, 25, 28, 3),
        label="Int64",
        index="range",
        columns=(
            ("a", "rare", "cluster", "none"),
            ("b", "objects", "skewed", "both"),
            ("c", "float32", "few values", "none"),
        ),
        engine="fcs",
        families={"b": "gamma"},
        options={"where": "b", "post": {"b": "all the largest"}},
        kind="pandas",
    ),
    "norm of as many rows as coefficients": Recipe(
        seed=5816,
        sizes=(3, 6, 3),
        label="int",
        index="repeated",
        columns=(
            ("b", "objects", "two values", "sporadic"),
            ("d", "date category", "count", "both"),
            ("c", "float64", "count", "none"),
            ("a", "float64", "normal", "both"),
        ),
        engine="fcs",
        families={"c": "poisson"},
        options={"where": "c"},
        kind="pandas",
    ),
    "norm of 1e15 + noise is exact with a row to spare": Recipe(
        seed=9835,
        sizes=(7, 1, 6),
        label="category",
        index="range",
        columns=(
            ("e", "period", "few values", "heavy"),
            ("c", "Float64", "large", "both"),
            ("d", "objects NA", "normal", "none"),
        ),
        engine="fcs",
        families={},
        options={"ignore": True, "order": "arabic"},
        kind="pandas",
    ),
    "the log mean of a multiple of its predictor runs away": fcs(
        5391,
        (6, 8, 15, 15, 2, 5, 12, 7),
        (
            ("a", "string", "skewed", "none"),
            ("b", "float32", "skewed", "sporadic"),
            ("d", "Int32", "collinear", "both"),
        ),
        {"b": "inverse_gaussian"},
        bounds={"d": "observed"},
        methods={"d": "ml"},
    ),
    "positive values that are round-off relative to their mean, in means of clusters": fcs(
        4857,
        (7, 6, 2, 5, 5, 7, 5, 7),
        (
            ("e", "objects", "cluster", "both"),
            ("c", "objects", "skewed", "sporadic"),
            ("a", "objects", "nested", "none"),
        ),
        {"e": "normal", "c": "inverse_gaussian"},
        bounds={"e": "observed"},
    ),
    "an automatic level that is a combination where it and the response are observed": Recipe(
        seed=190,
        sizes=(1, 3, 2, 2, 1),
        label="int",
        index="range",
        columns=(
            ("c", "bool objects", "collinear", "none"),
            ("d", "sparse", "collinear", "sporadic"),
            ("a", "Float64", "few values", "none"),
            ("b", "str", "few values", "both"),
            ("e", "arrow", "few values", "none"),
        ),
        engine="fcs",
        families={"e": "categorical"},
        options={"order": ["b", "d"]},
        kind="pandas",
    ),
    "an automatic predictor that is never observed with the response": Recipe(
        seed=193,
        sizes=(5, 6, 4, 2, 4),
        label="int",
        index="range",
        columns=(
            ("b", "objects", "binary", "systematic"),
            ("a", "mixed levels", "constant", "sporadic"),
            ("c", "Float64", "skewed", "systematic"),
            ("e", "float64", "skewed", "systematic"),
            ("d", "tuples", "skewed", "none"),
        ),
        engine="fcs",
        families={},
        options={"bounds": {"c": "observed"}},
        kind="pandas",
    ),
    "an automatic predictor that is constant where it and the response are observed": Recipe(
        seed=218,
        sizes=(5, 7, 8, 6, 8, 2, 2, 3, 8, 2, 3, 1, 7, 6, 3, 4, 2, 7, 6, 4),
        label="text",
        index="range",
        columns=(("e", "Float64", "nested", "both"), ("c", "decimals", "normal", "sporadic")),
        engine="fcs",
        families={},
        options={"methods": {"e": "norm"}},
        kind="pandas",
    ),
    "an automatic predictor that is a combination of complete ones": Recipe(
        seed=494,
        sizes=(9, 24, 16, 18, 6, 13, 19, 9),
        label="int",
        index="range",
        columns=(
            ("y", "decimals", "normal", "none"),
            ("1", "arrow int", "two values", "sporadic"),
            ("x:y", "sparse", "collinear", "none"),
            ("row_y", "Int32", "normal", "both"),
        ),
        engine="fcs",
        families={},
        options={},
        kind="pandas",
    ),
    "an automatic cluster mean of a level that is a combination in the clusters that have one": Recipe(
        seed=634,
        sizes=(6, 2, 6, 7, 3, 6, 6, 5, 3, 7, 5, 6, 6, 8, 7, 4, 4, 1, 6, 5),
        label="int",
        index="range",
        columns=(
            ("%", "float32", "normal", "sporadic"),
            ("cluster_y", "rare", "binary", "none"),
            ("x", "sparse", "binary", "heavy"),
            ("Y", "objects NA", "normal", "first clusters"),
        ),
        engine="fcs",
        families={},
        options={},
        kind="pandas",
    ),
    "the logarithm of an automatic predictor in the one row that it shares": Recipe(
        seed=322,
        sizes=(2, 3, 3, 3, 7),
        label="dates",
        index="multi",
        columns=(
            ("y_2", "arrow text", "count", "none"),
            ("y", "Float64", "few values", "sporadic"),
            ("chain", "boolean", "huge", "systematic"),
            ("class", "arrow", "normal", "both"),
            ("x|g", "arrow int", "count", "first clusters"),
        ),
        engine="fcs",
        families={"y": "categorical", "x|g": "poisson"},
        options={},
        kind="pandas",
    ),
    "sti of 1e15 + noise, from which another column is computed": Recipe(
        seed=2327,
        sizes=(22, 12, 16, 13, 15, 9, 28, 16),
        label="text",
        index="repeated",
        columns=(
            ("c", "float64", "normal", "sporadic"),
            ("e", "Float64", "normal", "both"),
            ("b", "arrow int", "normal", "heavy"),
            ("a", "float64", "large", "both"),
            ("d", "str", "normal", "none"),
        ),
        engine="fcs",
        families={},
        options={
            "bounds": {"a": "observed"},
            "derived": {"made": "`a` * 2"},
            "methods": {"e": "bayes", "b": "ml", "a": "sti"},
            "order": ["b", "e", "a", "c", "c"],
        },
        kind="pandas",
    ),
    "pmm of eight rows that others, as completed, explain exactly": Recipe(
        seed=3959,
        sizes=(1, 1, 2, 1, 1, 3, 1, 1),
        label="tuple",
        index="range",
        columns=(
            ("draw", "text objects", "cluster", "none"),
            ("y_2", "category", "constant", "systematic"),
            ("a-b", "date category", "skewed", "none"),
            ("{b}", "date category", "normal", "systematic"),
        ),
        engine="fcs",
        families={},
        options={"methods": "pmm"},
        kind="polars",
    ),
    "pmm of a category that others, as completed, explain exactly": Recipe(
        seed=5340,
        sizes=(6, 2, 8, 1, 5),
        label="int",
        index="range",
        columns=(
            ("chain", "tuples", "nested", "systematic"),
            ("y", "numeric category", "normal", "none"),
            ("a-b", "category", "normal", "sporadic"),
            ("row", "float64", "binary", "sporadic"),
            ("[a]", "string", "normal", "sporadic"),
        ),
        engine="fcs",
        families={},
        options={"methods": {"chain": "pmm", "row": "iw", "[a]": "bayes"}, "order": "monotone"},
        kind="pandas",
    ),
    "ml of a column that is dependent as completed": Recipe(
        seed=7518,
        sizes=(1, 6, 1, 2, 1),
        label="int",
        index="repeated",
        columns=(
            (".imp", "tuples", "huge", "sporadic"),
            ("x|g", "Int32", "normal", "heavy"),
            ("bp mmHg", "date category", "large", "none"),
            ("row_y", "arrow text", "normal", "none"),
        ),
        engine="fcs",
        families={},
        options={"methods": {"x|g": "ml"}},
        kind="pandas",
    ),
    "ml of columns that are dependent as completed": Recipe(
        seed=8616,
        sizes=(1, 3, 2, 2, 2),
        label="float",
        index="range",
        columns=(
            ("class", "tuples", "normal", "sporadic"),
            ("cluster_y", "arrow text", "skewed", "none"),
            ("a b\tc", "decimals", "normal", "both"),
            ("log", "arrow", "constant", "none"),
        ),
        engine="fcs",
        families={"class": "categorical"},
        options={
            "methods": {"class": "glm", "a b\tc": "ml"},
            "order": "roman",
            "post": {"class": "all the smallest"},
        },
        kind="pandas",
    ),
}
# Completed, where once they were not: automatic predictors that the observed cells say nothing of are left out, and
# visits in which nothing can be drawn are passed over.
MUST_COMPLETE = {
    "an automatic level that is a combination where it and the response are observed",
    "an automatic predictor that is never observed with the response",
    "an automatic predictor that is constant where it and the response are observed",
    "an automatic predictor that is a combination of complete ones",
    "an automatic cluster mean of a level that is a combination in the clusters that have one",
    "the logarithm of an automatic predictor in the one row that it shares",
    "pmm of eight rows that others, as completed, explain exactly",
    "pmm of a category that others, as completed, explain exactly",
    "ml of a column that is dependent as completed",
    "ml of columns that are dependent as completed",
    "the log mean of a multiple of its predictor runs away",
}
