"""Stiffness between groups of classes, such as CIFAR-100's super-classes (Fort et al. 2019, version 1, figure 7)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError

_CELLS_AT_ONCE = 2**23


@dataclass(frozen=True)
class GroupContrast:
    """How much stiffer different classes of the same group are than classes of different groups.

    Attributes:
        difference: mean C(a, b) over a != b of the same group, less the mean over different groups; every cell has the same weight.
        p_value: (1 + random groupings with at least this difference) / (1 + random groupings), one-sided; nan without a finite difference.
        permutations: random groupings drawn, of the same sizes.
    """

    difference: float
    p_value: float
    permutations: int


def group_contrast(matrix: Tensor, groups: Tensor, *, generator: torch.Generator, permutations: int = 10_000) -> GroupContrast:
    """Contrast of a class matrix by groups, with a permutation test over random groupings of the classes.

    Args:
        matrix: ``ClassMatrix.mean`` ``[n_classes, n_classes]``, symmetric or not; the diagonal plays no part.
        groups: group of each class ``[n_classes]``.

    Raises:
        ReplicationError: groups that do not fit the matrix, or that leave no pair of classes within or between groups.

    Example:
        Four classes in two groups: one of the three possible groupings is the true one.

        >>> import torch
        >>> from replication.stiffness import group_contrast
        >>> matrix = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]])
        >>> contrast = group_contrast(matrix, torch.tensor([0, 0, 1, 1]), generator=torch.Generator().manual_seed(0), permutations=2000)
        >>> contrast.difference, round(contrast.p_value, 1)
        (1.0, 0.3)
    """
    _check(matrix, groups)
    matrix, (_, groups) = matrix.double(), groups.unique(return_inverse=True)
    n = len(matrix)
    off = matrix.masked_fill(torch.eye(n, dtype=torch.bool, device=matrix.device), 0.0)
    inside = int((groups[:, None] == groups[None, :]).sum()) - n
    outside = n * (n - 1) - inside
    if not inside or not outside:
        raise ReplicationError(f"The groups leave {inside} cells within and {outside} between groups; both are needed for a contrast.")

    def differences(groupings: Tensor) -> Tensor:
        same = (groupings[:, :, None] == groupings[:, None, :]).to(off)
        sums = torch.einsum("gab,ab->g", same, off)
        return sums / inside - (off.sum() - sums) / outside

    observed = differences(groups[None]).item()
    if not math.isfinite(observed):
        return GroupContrast(observed, math.nan, permutations)
    at_least, at_once = 0, max(1, _CELLS_AT_ONCE // n**2)
    for first in range(0, permutations, at_once):
        keys = torch.rand(min(at_once, permutations - first), n, generator=generator, device=generator.device)
        random = differences(groups[keys.argsort(1).to(groups.device)])
        at_least += int((random >= observed - 1e-12 * abs(observed)).sum())  # the same grouping in another order rounds otherwise
    return GroupContrast(observed, (1 + at_least) / (1 + permutations), permutations)


def levels(matrix: Tensor, groups: Tensor, kingdoms: Tensor | None = None) -> pd.DataFrame:
    """Mean stiffness by how closely two classes are related.

    Args:
        matrix: ``ClassMatrix.mean`` ``[n_classes, n_classes]``.
        groups: super-class of each class ``[n_classes]``.
        kingdoms: coarser groups ``[n_classes]`` (living or not), each made of whole super-classes.

    Returns:
        columns ``level`` (``same class``, ``same super-class``, ``same kingdom`` where given, ``rest``), ``stiffness``, ``cells``;
        a pair of classes counts in the closest level only; nan where a level has no cell or one of its cells is nan.

    Raises:
        ReplicationError: groups that do not fit the matrix.

    Example:
        >>> import torch
        >>> from replication.stiffness import levels
        >>> matrix = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]])
        >>> levels(matrix, torch.tensor([0, 0, 1, 1]))
                      level  stiffness  cells
        0        same class        9.0      4
        1  same super-class        1.0      4
        2              rest        0.0      8
    """
    named: list[tuple[str, Tensor]] = [("same class", torch.arange(len(matrix), device=matrix.device)), ("same super-class", groups)]
    named += [] if kingdoms is None else [("same kingdom", kingdoms)]
    rows, left = [], torch.ones(matrix.shape, dtype=torch.bool, device=matrix.device)
    for name, members in named:
        _check(matrix, members)
        members = members.to(matrix.device)
        cells = left & (members[:, None] == members[None, :])
        rows.append(_level(name, matrix[cells]))
        left &= ~cells
    return pd.DataFrame([*rows, _level("rest", matrix[left])])


def _level(name: str, cells: Tensor) -> dict[str, object]:
    return {"level": name, "stiffness": cells.mean().item() if len(cells) else math.nan, "cells": len(cells)}


def _check(matrix: Tensor, groups: Tensor | Sequence[int]) -> None:
    if matrix.dim() != 2 or matrix.shape != (len(groups), len(groups)):
        raise ReplicationError(
            f"The class matrix has shape {tuple(matrix.shape)} and {len(groups)} classes have a group; give each class one."
        )
