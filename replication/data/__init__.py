"""Data sets as tensors in memory.

- ``examples``: prepared data sets, splits, normalisation: what an experiment gets.
- ``sources``: where the bytes come from.
"""

from replication.data.examples import (
    Dataset,
    Examples,
    Experiment,
    Normalisation,
    Split,
    assemble,
    available,
    load,
    normalise,
    prepare,
    random_labels,
    resize,
    split,
    subset,
)

__all__ = [
    "Dataset",
    "Examples",
    "Experiment",
    "Normalisation",
    "Split",
    "assemble",
    "available",
    "load",
    "normalise",
    "prepare",
    "random_labels",
    "resize",
    "split",
    "subset",
]
