"""Cross products in SQL, where DuckDB reads the rows: one GROUP BY cluster and which responses are observed.

    select cluster, y1 is not null, .., count(*), sum(a * b), ..  for every pair of columns a, b of [covariates | responses],

each less its centre; an unobserved response counts 0. DuckDB sums on all cores, in an order that may differ between runs,
so sums agree to rounding only. A formula whose columns are more than numbers, levels and products of these is read batch
by batch instead.
"""

from __future__ import annotations

import pyarrow as pa

from bayesimp.federated.agreement import Agreement
from bayesimp.partitioned.rows import BatchMoments, Place
from bayesimp.table.partitions import PartitionedData

__all__ = ["columns_as_sql", "moments_by_sql"]


def columns_as_sql(
    data: PartitionedData, agreement: Agreement, place: Place, first: pa.RecordBatch
) -> list[str] | None:
    """The covariates as expressions; None if the rows are not read by DuckDB or a column is not so simple."""
    return None


def moments_by_sql(
    data: PartitionedData, agreement: Agreement, place: Place, columns: list[str]
) -> BatchMoments:
    """All rows at once."""
    raise NotImplementedError
