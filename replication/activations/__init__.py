"""Outputs of the layers of a network on a fixed set of examples, by the names of its modules.

- ``outputs``: the passes through the network.
- ``company``: checks that rows are examples: an example must get the same rows alone and among others.
- ``names``: which output of which call of which module a name means.
- ``reading``: inputs in every form, chunk by chunk.
"""

from replication.activations.outputs import layer_batches, layer_outputs

__all__ = ["layer_batches", "layer_outputs"]
