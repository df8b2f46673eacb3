"""What the Ops in models/density_ops.py, free_ops.py and product_ops.py share: input types, outputs, the version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytensor.tensor as pt
from numpy.typing import ArrayLike
from pytensor.graph.op import Op

from bayesimp.kernels.compiled import STAMP

if TYPE_CHECKING:
    from pytensor.graph.basic import Variable

__all__ = ["VERSION", "TensorLike", "outputs_of"]

type TensorLike = Variable | ArrayLike  # whatever can become an input of a node
VERSION = int.from_bytes(
    STAMP[:4], "big"
)  # of the kernels: PyTensor's cache of compiled functions asks for it


def outputs_of(op: Op, *inputs: TensorLike) -> list[Any]:
    """The outputs of an Op, which are tensors here."""
    return op.make_node(*map(pt.as_tensor_variable, inputs)).outputs
