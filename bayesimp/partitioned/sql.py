"""Cross products in SQL, where DuckDB reads the rows: one GROUP BY cluster and which responses are observed.

    select cluster, o_1, .., count(*), sum(d_i), sum(d_i d_j), .., min(y_k), max(y_k)
    from (select cluster, o_k = y_k is observed, d = covariates minus their centres, o_k (y_k - centre))

DuckDB sums on all cores, in an order that may differ between runs: sums agree to rounding, not to the bit. Formulas whose
columns are more than numbers, levels and products of these, and tables with values that cannot be used, are read batch by
batch, where messages name the rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bayesimp.federated.agreement import Agreement
from bayesimp.federated.rows import agreed_design
from bayesimp.formulas.columns import INTERCEPT
from bayesimp.formulas.nodes import Level, Name, Node, Op
from bayesimp.formulas.syntax import read
from bayesimp.kernels.normal.statistics import SufficientStatistics
from bayesimp.partitioned.rows import FEW, BatchMoments, PartRows, Place
from bayesimp.table.clusters import Clusters
from bayesimp.table.partitions import PartitionedData
from bayesimp.table.sources import StreamSource, quoted

__all__ = ["columns_as_sql", "moments_by_sql"]


def columns_as_sql(data: PartitionedData, rows: PartRows, place: Place) -> list[str] | None:
    """The covariates as expressions; rows: the first ones.

    None: DuckDB does not read the rows, or a column is not simple.
    """
    if not (isinstance(data.source, StreamSource) and data.source.is_duckdb):
        return None
    agreement = rows.agreement
    words = [*agreement.parsed.variables, *(each for levels in agreement.levels.values() for each in levels)]
    if any(
        mark in word for word in words for mark in ":[]`"
    ):  # marks by which names of columns are taken apart
        return None
    made = agreed_design(rows)
    names, terms = (*made.fixed, *made.random), (*made.terms, *made.random_terms)
    term = dict(zip(names, terms, strict=True))
    columns = [_expression(_node(term[name]), data.schema) for name in place.covariates]
    return None if None in columns else columns  # type: ignore[return-value]


def _node(term: str) -> Node:
    """The tree of a column, with a level where its name ends with one: ``arm[low]``, ``x:arm[low]``."""
    factors: list[Node] = []
    for part in term.split(":"):
        name, bracket, level = part.partition("[")
        factors.append(Level(read(name), level[:-1]) if bracket else read(name))
    made = factors[0]
    for factor in factors[1:]:
        made = Op(":", made, factor)
    return made


def _expression(node: Node, schema: pa.Schema) -> str | None:
    """A column as a double precision number; None if it is more than numbers, levels of text and products."""
    if isinstance(node, Name) and node.name != INTERCEPT:
        return f"cast({quoted(node.name)} as double)"
    if isinstance(node, Level) and isinstance(node.factor, Name):
        kind = schema.field(node.factor.name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
            return None
        return f"cast(cast({quoted(node.factor.name)} as varchar) = {_text(node.level)} as double)"
    if isinstance(node, Op) and node.symbol == ":":
        left, right = _expression(node.left, schema), _expression(node.right, schema)
        return None if left is None or right is None else f"({left} * {right})"
    return None


def moments_by_sql(
    data: PartitionedData, agreement: Agreement, place: Place, columns: list[str]
) -> BatchMoments | None:
    """Cross products of all rows; None if values cannot be used (missing covariates or clusters, infinite numbers)."""
    assert isinstance(data.source, StreamSource)
    responses, v = agreement.responses, len(columns)
    r = len(responses)
    table = data.source.query.query(
        "rows_of_table", _statement(data, agreement, place, columns)
    ).to_arrow_table()
    got = table.to_pandas()
    if not len(got) or got["bad"].sum() or got["cluster"].isna().any():
        return None
    groups = Clusters.of(got["cluster"].rename(data.cluster), least=1)
    observed = got[[f"o{k}" for k in range(r)]].to_numpy(bool)
    patterns, pattern = np.unique(-observed.astype(np.int8), axis=0, return_inverse=True)
    order = np.lexsort([pattern.ravel(), groups.codes])
    d, n = 1 + v + r, got["n"].to_numpy(np.int64)
    gram = np.empty((len(got), d, d))
    gram[:, 0, 0] = n
    for i in range(d - 1):
        gram[:, 0, 1 + i] = gram[:, 1 + i, 0] = got[f"s{i}"]
        for j in range(i, d - 1):
            gram[:, 1 + i, 1 + j] = gram[:, 1 + j, 1 + i] = got[f"p{i}_{j}"]
    st = SufficientStatistics(
        patterns < 0, groups.codes[order], pattern.ravel()[order], n[order], gram[order], len(groups), v, 0, r
    )
    low, high = np.full((len(groups), r), np.inf), np.full((len(groups), r), -np.inf)
    for k in range(r):
        np.minimum.at(low[:, k], groups.codes, got[f"l{k}"].fillna(np.inf))
        np.maximum.at(high[:, k], groups.codes, got[f"h{k}"].fillna(-np.inf))
    values = tuple(_values(data, name, low[:, k], high[:, k]) for k, name in enumerate(responses))
    return BatchMoments(groups.labels.tolist(), st, low, high, values)


def _statement(data: PartitionedData, agreement: Agreement, place: Place, columns: list[str]) -> str:
    v, r, cluster = len(columns), len(agreement.responses), quoted(data.cluster)
    numbers = [f"cast({quoted(name)} as double)" for name in agreement.responses]
    seen = [f"({y} is not null and not isnan({y}))" for y in numbers]
    inner = [f"{cluster} as cluster"]
    inner += [
        f"{column} - {float(c)!r} as d{i}"
        for i, (column, c) in enumerate(zip(columns, place.centre, strict=False))
    ]
    for k, (y, there) in enumerate(zip(numbers, seen, strict=True)):
        inner.append(f"{there} as o{k}")
        inner.append(f"case when {there} then {y} end as y{k}")
        inner.append(f"case when {there} then {y} - {float(place.centre[v + k])!r} else 0.0 end as d{v + k}")
    broken = [f"d{i} is null or not isfinite(d{i})" for i in range(v + r)]
    sums = [f"sum(d{i}) as s{i}" for i in range(v + r)]
    sums += [f"sum(d{i} * d{j}) as p{i}_{j}" for i in range(v + r) for j in range(i, v + r)]
    ends = [f"min(y{k}) as l{k}, max(y{k}) as h{k}" for k in range(r)]
    groups = ", ".join(["cluster", *(f"o{k}" for k in range(r))])
    bad = f"count(*) filter (where {' or '.join(broken)}) as bad"
    return (
        f"select {groups}, count(*) as n, {bad}, {', '.join(sums + ends)} "
        f"from (select {', '.join(inner)} from rows_of_table) group by {groups}"
    )


def _values(data: PartitionedData, name: str, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Up to `FEW` distinct values of a response: least and largest ones of clusters, then any other."""
    assert isinstance(data.source, StreamSource)
    found = np.unique(np.concatenate([low[np.isfinite(low)], high[np.isfinite(high)]]))
    if 0 < len(found) < FEW:
        y = f"cast({quoted(name)} as double)"
        known = " and ".join(f"{y} <> {float(value)!r}" for value in found)
        text = f"select {y} from rows_of_table where not isnan({y}) and {known} limit 1"
        more = data.source.query.query("rows_of_table", text).fetchall()
        found = np.unique([*found, *(row[0] for row in more)])
    return found[:FEW]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
