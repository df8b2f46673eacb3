"""Joint imputation of tables that do not fit into memory: one pass over the rows, sampling, one pass to complete them.

    one pass        rows, part by part -> counts and cross products by cluster and pattern      moments.py, sql.py
    no pass         draws of beta, Sigma and Psi, as of `bayesimp.JointNormal`                  model.py, gibbs.py
    one pass        rows, part by part -> m completed tables, as Parquet files                  completion.py, result.py

A table in partitions is treated as one site of `bayesimp.federated` that releases everything
(docs/howto/larger_than_memory.md).
"""

from bayesimp.partitioned.model import PartitionedNormal
from bayesimp.partitioned.result import PartitionedImputations

__all__ = ["PartitionedImputations", "PartitionedNormal"]
