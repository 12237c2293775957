"""The loss as a function of the parameter vector, on a fixed set of examples. All instruments build on it.

- ``objective``: ``Objective``, with values, gradients and products with the Hessian and its relatives.
- ``evaluation``: loss and accuracy at many points, without derivatives. ``sums``, ``products``: sums over chunks of examples.
- ``plain``: the model itself as a function of the vector. ``fast_paths``: faster forms, used only if they give the same numbers:
  ``folding`` (batch norm folded into the weights), ``stacked_mlp`` (small networks at several points), ``memory_format``.
- ``examination``: what a network does on a few examples (``probes``, ``arithmetic``): randomness and examples that influence
  each other (``coupling``), values kept from other weights (``kept_values``), weights read past the copy (``other_weights``),
  wrong second derivatives (``second_derivatives``, ``graphs``). ``comparison``: whether another model is the same network.
- ``roles``: what a parameter tensor is in its module (weight, bias, scale of a normalisation).
- ``vector``: the flat vector of parameters, and the one of buffers. ``subsets``: which parameters it holds.
- ``networks``: copies of a user's model. ``inputs``, ``example_sets``: examples in any form. ``losses``: losses of single examples.
- ``options``: checks of arguments.
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
