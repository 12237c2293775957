"""Stiffness (Fort et al. 2019, arXiv 1901.09491): does a step on one example lower the loss of another?

- ``gradient_gram``: products of the gradients of single examples, layer by layer. ``example_gradients`` takes the gradients by plain
  autograd and ``layer_forms`` in faster ways; ``examination``, ``trial`` and ``plan`` decide between them, and ``proof`` checks
  what comes out.
- ``matrix``: means by class, and other numbers read off a Gram matrix.
- ``pairs``, ``groups``, ``distance``: stiffness of pairs, between groups of classes, against the distance of inputs.
"""

from replication.stiffness.distance import CriticalLength, binned, critical_length, distances, upper_crossing
from replication.stiffness.gradient_gram import TOTAL, gram, squared_norms
from replication.stiffness.groups import GroupContrast, group_contrast, levels
from replication.stiffness.matrix import ClassMatrix, bootstrap, class_matrix, coherence, confusion, diversity, noise_scale, table
from replication.stiffness.pairs import Pairs, pairs_of

__all__ = [
    "TOTAL",
    "ClassMatrix",
    "CriticalLength",
    "GroupContrast",
    "Pairs",
    "binned",
    "bootstrap",
    "class_matrix",
    "coherence",
    "confusion",
    "critical_length",
    "distances",
    "diversity",
    "gram",
    "group_contrast",
    "levels",
    "noise_scale",
    "pairs_of",
    "squared_norms",
    "table",
    "upper_crossing",
]
