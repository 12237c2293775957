"""The loss as a function of the parameter vector, on a fixed set of examples: the ground floor of the instruments.

- ``objective``: ``Objective``, with value, gradients and Hessian-vector products.
- ``evaluation``: loss and accuracy at many points, without derivatives.
- ``folding``: batch norm folded into the weights; ``stacked_mlp``: small networks at several points at once.
- ``losses``: losses of single examples; ``memory_format``: channels_last, and the convolutions that are not safe in it.
"""

from replication.objective.evaluation import Evaluation
from replication.objective.objective import Objective
from replication.objective.vector import (
    Slot,
    flat_buffers,
    flat_parameters,
    layout_of,
    write_buffers,
    write_parameters,
)

__all__ = [
    "Evaluation",
    "Objective",
    "Slot",
    "flat_buffers",
    "flat_parameters",
    "layout_of",
    "write_buffers",
    "write_parameters",
]
