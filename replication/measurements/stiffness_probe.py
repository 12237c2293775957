"""What the stiffness figures are drawn from: one Gram matrix of a probe of training and validation examples, read off into tables.

Every table carries its controls beside the values: examples whose gradients point up or down by chance (``flipped``), and labels
or similarities given to other examples (``permuted``).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.schema.stiffness import ALL_BUT_LAST
from replication.stiffness.distance import binned, critical_length, upper_crossing
from replication.stiffness.gradient_gram import TOTAL
from replication.stiffness.groups import group_contrast, levels
from replication.stiffness.matrix import ClassMatrix, class_matrix
from replication.stiffness.pairs import Kind

KINDS: tuple[Kind, ...] = ("sign", "cosine")
_EDGES = torch.linspace(-1, 1, 57, dtype=torch.float64)  # 30 bins from about 0 to 1, as in version 1, figure 9
_SHARE = 0.005  # of all pairs that a bin needs to take part in a crossing or a minimum


@dataclass(frozen=True)
class Probe:
    """Examples that pairs are made of, training ones first.

    Attributes:
        images: ``[n + m, ...]``.
        labels: ``[n + m]``.
        n_train: n.
    """

    images: Tensor
    labels: Tensor
    n_train: int

    @property
    def modes(self) -> dict[str, tuple[slice, slice]]:
        """Rows and columns of the Gram matrix by mode; training alone where there are no validation examples."""
        train, validation = slice(0, self.n_train), slice(self.n_train, None)
        modes = {"train_train": (train, train)}
        if self.n_train < len(self.labels):
            modes |= {"train_validation": (train, validation), "validation_validation": (validation, validation)}
        return modes

    def permuted_labels(self, generator: torch.Generator) -> Tensor:
        """Labels given to other examples of the same part."""
        parts = self.labels.split([self.n_train, len(self.labels) - self.n_train])
        return torch.cat([part[torch.randperm(len(part), generator=generator).to(part.device)] for part in parts])


def matrix_of(gram: Tensor, labels: Tensor, places: tuple[slice, slice], kind: Kind) -> ClassMatrix:
    """Class matrix of one mode; identical pairs never count."""
    rows, columns = places
    if rows == columns:
        return class_matrix(gram[rows, rows], labels[rows], kind)
    norms = gram.diag()
    return class_matrix(gram[rows, columns], labels[rows], kind, column_labels=labels[columns], squared_norms=(norms[rows], norms[columns]))


def with_all_but_last(grams: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices with that of all layers but the last one beside them.

    The last layer alone makes products within a class positive: with cross-entropy and features that are not negative, its share of
    such a product is (1 - p_c)(1 - q_c) plus a sum of products of probabilities, times a positive factor.
    """
    names = [name for name in grams if name != TOTAL]
    return dict(grams) if len(names) < 2 else dict(grams) | {ALL_BUT_LAST: torch.stack([grams[name] for name in names[:-1]]).sum(0)}


def class_tables(grams: Mapping[str, Tensor], probe: Probe, *, generator: torch.Generator) -> pd.DataFrame:
    """``ClassMatrix.table`` of the total and, where it is there, of all layers but the last, by mode and kind; ``stiffness_flipped``."""
    flips = _flips(probe, generator)
    tables = []
    for layer in (name for name in (TOTAL, ALL_BUT_LAST) if name in grams):
        for mode, places in probe.modes.items():
            for kind in KINDS:
                table = matrix_of(grams[layer], probe.labels, places, kind).table()
                flipped = matrix_of(grams[layer] * flips, probe.labels, places, kind).mean.flatten().cpu().numpy()
                tables.append(table.assign(stiffness_flipped=flipped, layer=layer, mode=mode, kind=kind))
    return pd.concat(tables, ignore_index=True)


def _flips(probe: Probe, generator: torch.Generator) -> Tensor:
    """Plus or minus one for every pair: the product of a random sign of each example."""
    signs = (2 * torch.randint(2, (len(probe.labels),), generator=generator, dtype=torch.float64) - 1).to(probe.labels.device)
    return signs[:, None] * signs[None, :]


def summary(grams: Mapping[str, Tensor], probe: Probe, *, generator: torch.Generator) -> pd.DataFrame:
    """Stiffness within and between classes, one row per layer, mode and kind.

    Columns: ``layer``, ``mode``, ``kind``, ``within``, ``between`` (class averages), the same ``_flipped`` and ``_permuted`` (controls),
    ``pairs``, ``zero_products``, ``zero_gradients``, ``non_finite``, ``mean_norm`` of the rows' gradients.
    """
    flips, permuted = _flips(probe, generator), probe.permuted_labels(generator)
    rows = []
    for layer, matrix in grams.items():
        for mode, places in probe.modes.items():
            for kind in KINDS:
                measured = matrix_of(matrix, probe.labels, places, kind)
                controls = {
                    "flipped": matrix_of(matrix * flips, probe.labels, places, kind),
                    "permuted": matrix_of(matrix, permuted, places, kind),
                }
                counts = ("pairs", "zero_products", "zero_gradients", "non_finite")
                rows.append(
                    {"layer": layer, "mode": mode, "kind": kind, "within": measured.within(), "between": measured.between()}
                    | {f"within_{name}": control.within() for name, control in controls.items()}
                    | {f"between_{name}": control.between() for name, control in controls.items()}
                    | {name: int(getattr(measured, name).sum()) for name in counts}
                    | {"mean_norm": matrix.diag()[places[0]].sqrt().mean().item()}
                )
    return pd.DataFrame(rows)


def lengths(gram: Tensor, probe: Probe, distances: Tensor, *, generator: torch.Generator, resamples: int) -> pd.DataFrame:
    """``stiffness.CriticalLength`` of the training examples' within-class pairs by kind, and the slope with distances permuted."""
    n = probe.n_train
    order = torch.randperm(n, generator=generator).to(distances.device)
    rows = []
    for kind in KINDS:
        fits = [
            critical_length(gram[:n, :n], d, probe.labels[:n], kind=kind, generator=generator if draws else None, resamples=draws)
            for d, draws in ((distances, resamples), (distances[order][:, order], 0))
        ]
        rows.append({"kind": kind, **asdict(fits[0]), "slope_permuted": fits[1].slope})
    return pd.DataFrame(rows)


def curve(gram: Tensor, probe: Probe, similarities: Tensor, *, generator: torch.Generator) -> pd.DataFrame:
    """Sign stiffness of all training pairs against similarity, and ``stiffness_permuted`` with similarities given to other examples."""
    n = probe.n_train
    order = torch.randperm(n, generator=generator).to(similarities.device)
    curves = [binned(gram[:n, :n], s, probe.labels[:n], edges=_EDGES) for s in (similarities, similarities[order][:, order])]
    table = curves[0].assign(stiffness_permuted=curves[1]["stiffness"])
    return table[table["pairs"] > 0]


def domain(table: pd.DataFrame) -> dict[str, float | bool]:
    """Size of the stiff domain and depth of the dip below zero of one ``curve``; bins with few pairs are left out.

    The size is one minus the highest similarity at which stiffness rises through zero. A curve that never lies at or below zero has
    no crossing: all its pairs are stiff, and the size is the whole range of its similarities (``crosses`` is False).
    """
    filled = table[table["pairs"] >= _SHARE * table["pairs"].sum()]
    if filled.empty:
        return {"crossing": torch.nan, "size": torch.nan, "crosses": False, "lowest": torch.nan, "lowest_permuted": torch.nan}
    crossing = upper_crossing(filled["similarity"].to_numpy(), filled["stiffness"].to_numpy())
    crosses = not math.isnan(crossing)
    all_stiff = bool((filled["stiffness"] > 0).all())
    reaches = crossing if crosses else filled["similarity"].min() if all_stiff else torch.nan
    lowest = {"lowest": filled["stiffness"].min(), "lowest_permuted": filled["stiffness_permuted"].min()}
    return {"crossing": crossing, "size": 1 - reaches, "crosses": crosses, **lowest}


def group_tables(
    gram: Tensor, probe: Probe, groups: Tensor, kingdoms: Tensor, *, generator: torch.Generator, permutations: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How stiffness depends on how closely classes are related.

    Returns:
        ``stiffness.levels`` by mode and kind, and ``stiffness.group_contrast`` for ``super_class`` and ``kingdom``, with groupings of the
        classes drawn by chance beside them (``grouping`` random).

    Raises:
        ReplicationError: the probe lacks a class.
    """
    related, contrasts = [], []
    groupings = {"super_class": groups, "kingdom": kingdoms}
    random = {name: members[torch.randperm(len(members), generator=generator)] for name, members in groupings.items()}
    for mode, places in probe.modes.items():
        for kind in KINDS:
            classes = matrix_of(gram, probe.labels, places, kind)
            if len(classes.classes) != len(groups):
                raise ReplicationError(
                    f"The probe holds {len(classes.classes)} of {len(groups)} classes; give it at least two examples of each class."
                )
            related.append(levels(classes.mean, groups, kingdoms).assign(mode=mode, kind=kind))
            for grouping, chosen in (("true", groupings), ("random", random)):
                for level, members in chosen.items():
                    contrast = group_contrast(classes.mean, members, generator=generator, permutations=permutations)
                    contrasts.append({"mode": mode, "kind": kind, "level": level, "grouping": grouping, **asdict(contrast)})
    return pd.concat(related, ignore_index=True), pd.DataFrame(contrasts)
