"""Imputation of tables that do not fit into memory: one pass over the rows, sampling, one pass to complete them.

Normal variables, `PartitionedNormal`:

    one pass        rows, part by part -> counts and cross products by cluster and pattern      moments.py, sql.py
    no pass         draws of beta, Sigma and Psi, as of `bayesimp.JointNormal`                  model.py, gibbs.py
    one pass        rows, part by part -> m completed tables, as Parquet files                  completion.py, result.py

Binary variables and counts, `PartitionedFCS`:

    one pass        rows, part by part -> distinct rows and how often each occurs               distinct.py
    no pass         chained equations on these counts, as of `bayesimp.FCS`                     blocks.py, chains.py
    one pass        rows, part by part -> m completed tables, as Parquet files                  fcs_result.py

For `PartitionedNormal` a table in partitions is one site of `bayesimp.federated` that releases everything
(docs/howto/larger_than_memory.md).
"""

from bayesimp.partitioned.fcs import PartitionedFCS
from bayesimp.partitioned.fcs_result import PartitionedFCSImputations
from bayesimp.partitioned.model import PartitionedNormal
from bayesimp.partitioned.result import PartitionedImputations

__all__ = ["PartitionedFCS", "PartitionedFCSImputations", "PartitionedImputations", "PartitionedNormal"]
