"""CIFAR-100's 20 super-classes and the two kingdoms (Krizhevsky 2009; Fort et al. 2019 sort classes by both)."""

import torch
from torch import Tensor

from replication.errors import ReplicationError

# the official numbers of the fine classes, which are alphabetical
_LIVING = {
    "aquatic mammals": (4, 30, 55, 72, 95),
    "fish": (1, 32, 67, 73, 91),
    "flowers": (54, 62, 70, 82, 92),
    "fruit and vegetables": (0, 51, 53, 57, 83),
    "insects": (6, 7, 14, 18, 24),
    "large carnivores": (3, 42, 43, 88, 97),
    "large omnivores and herbivores": (15, 19, 21, 31, 38),
    "medium-sized mammals": (34, 63, 64, 66, 75),
    "non-insect invertebrates": (26, 45, 77, 79, 99),
    "people": (2, 11, 35, 46, 98),
    "reptiles": (27, 29, 44, 78, 93),
    "small mammals": (36, 50, 65, 74, 80),
    "trees": (47, 52, 56, 59, 96),
}
_NOT_LIVING = {
    "food containers": (9, 10, 16, 28, 61),
    "household electrical devices": (22, 39, 40, 86, 87),
    "household furniture": (5, 20, 25, 84, 94),
    "large man-made outdoor things": (12, 17, 37, 68, 76),
    "large natural outdoor scenes": (23, 33, 49, 60, 71),
    "vehicles 1": (8, 13, 48, 58, 90),
    "vehicles 2": (41, 69, 81, 85, 89),
}
CIFAR100 = _LIVING | _NOT_LIVING


def groups_of(name: str, classes: int) -> tuple[Tensor, Tensor]:
    """Super-class and kingdom of every class, ``[classes]`` each.

    Args:
        name: ``"cifar100"``, or ``"neighbours"``: pairs of neighbouring classes, lower and upper half, for data without super-classes.

    Raises:
        ReplicationError: the data have another number of classes than CIFAR-100.
    """
    if name == "neighbours":
        numbers = torch.arange(classes)
        return numbers // 2, (numbers >= classes // 2).long()
    if classes != 100:
        raise ReplicationError(
            f"The super-classes of CIFAR-100 are of 100 classes and the data have {classes}; use super_classes: neighbours."
        )
    groups, kingdoms = torch.empty(100, dtype=torch.int64), torch.empty(100, dtype=torch.int64)
    for number, (group, members) in enumerate(CIFAR100.items()):
        groups[list(members)], kingdoms[list(members)] = number, int(group in _NOT_LIVING)
    return groups, kingdoms
