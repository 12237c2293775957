"""The books of loss change allocation: every sum the figures need, in memory that does not grow with the number of steps
times the number of parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.lca_books import Books
from replication.objective import Slot

if TYPE_CHECKING:
    from replication.lca import Allocation

STEP_COLUMNS = (
    "loss_start",
    "loss_end",
    "lca",
    "error",
    "intervals",
    "first_order",
    "trapezoid",
    "lca_shuffled",
    "first_order_shuffled",
)
TENSOR_COLUMNS = ("lca", "helping", "hurting", "zero", "lca_shuffled", "helping_shuffled", "hurting_shuffled")
ELEMENT_COLUMNS = ("elements", "zeros", "non_finite", "sum", "sum_of_squares", "sum_of_fourth_powers")
# logarithmic bins of abs(A): a Weibull fit on bins this fine differs from one on the elements by less than 1e-3
BINS_PER_DECADE = 40
DECADES = (-24, 4)
_N_BINS = BINS_PER_DECADE * (DECADES[1] - DECADES[0])


@dataclass
class Ledger(Books):
    """What ``lca.along`` accumulates; sums are float64.

    Attributes:
        names, layers, sizes: of the parameter tensors, in order.
        steps: ``[n_steps]``, the number of each step.
        per_step: ``[n_steps, len(STEP_COLUMNS)]``.
        per_tensor: ``[n_steps, n_tensors, len(TENSOR_COLUMNS)]``.
        totals, helping, hurting: ``[n_parameters]``: sum of A, and number of steps with A < 0 and with A > 0.
        histogram_count, histogram_sum: ``[2, n_bins]``: number and sum of abs(A) in logarithmic bins; row 0 helping, row 1 hurting.
        moments: number of elements, of zeros, of non-finite ones; sums of A, A^2 and A^4 over the finite ones.
    """

    PER_NETWORK = ("names", "layers", "sizes")
    PER_STEP = ("steps", "per_step", "per_tensor")

    layers: list[str]
    per_step: np.ndarray
    per_tensor: np.ndarray
    totals: np.ndarray
    helping: np.ndarray
    hurting: np.ndarray
    histogram_count: np.ndarray
    histogram_sum: np.ndarray
    moments: np.ndarray

    @classmethod
    def empty(cls, layout: Sequence[Slot], steps: range) -> Self:
        """Books with a row for each step and nothing entered yet."""
        n_parameters = layout[-1].stop
        return cls(
            names=[slot.name for slot in layout],
            layers=[slot.layer for slot in layout],
            sizes=[slot.stop - slot.start for slot in layout],
            steps=np.arange(steps.start, steps.stop),
            per_step=np.full((len(steps), len(STEP_COLUMNS)), np.nan),
            per_tensor=np.full((len(steps), len(layout), len(TENSOR_COLUMNS)), np.nan),
            totals=np.zeros(n_parameters),
            helping=np.zeros(n_parameters, dtype=np.int64),
            hurting=np.zeros(n_parameters, dtype=np.int64),
            histogram_count=np.zeros((2, _N_BINS), dtype=np.int64),
            histogram_sum=np.zeros((2, _N_BINS)),
            moments=np.zeros(6),
        )

    def enter(self, step: int, allocation: "Allocation", permutation: Tensor) -> None:
        """Add one step; ``permutation`` ``[n_parameters]`` shuffles the gradient for the control."""
        row = step - int(self.steps[0])
        change = allocation.change
        shuffled = allocation.mean_gradient[permutation] * allocation.movement
        columns = [change, change < 0, change > 0, change == 0, shuffled, shuffled < 0, shuffled > 0]
        per_element = torch.stack([column.double() for column in columns])
        self.per_tensor[row] = torch.stack([part.sum(1) for part in per_element.split(self.sizes, dim=1)]).cpu().numpy()
        self.per_step[row] = (
            allocation.loss_start,
            allocation.loss_end,
            change.sum().item(),
            allocation.error,
            allocation.intervals,
            allocation.first_order.sum().item(),
            allocation.trapezoid.sum().item(),
            shuffled.sum().item(),
            (allocation.gradient_start[permutation] @ allocation.movement).item(),
        )
        values = change.cpu().numpy()
        self.totals += values
        self.helping += values < 0
        self.hurting += values > 0
        self._enter_distribution(values)

    def _enter_distribution(self, values: np.ndarray) -> None:
        finite = values[np.isfinite(values)]
        squares = finite * finite
        counts = (len(values), int((finite == 0).sum()), len(values) - len(finite))
        self.moments += (*counts, finite.sum(), squares.sum(), (squares * squares).sum())
        for sign, part in enumerate((-finite[finite < 0], finite[finite > 0])):
            bins = np.floor((np.log10(part) - DECADES[0]) * BINS_PER_DECADE).astype(np.int64).clip(0, _N_BINS - 1)
            self.histogram_count[sign] += np.bincount(bins, minlength=_N_BINS)
            self.histogram_sum[sign] += np.bincount(bins, weights=part, minlength=_N_BINS)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Tidy tables: ``steps`` (a row per step), ``layers`` (a row per step and parameter tensor), ``histogram`` (a row per sign
        and non-empty bin of abs(A)) and ``elements`` (one row: number of elements, of zeros and non-finite ones, sums of powers)."""
        steps = pd.DataFrame(self.per_step, columns=list(STEP_COLUMNS))
        steps.insert(0, "step", self.steps)
        n_steps, n_tensors, _ = self.per_tensor.shape
        layers = pd.DataFrame(self.per_tensor.reshape(n_steps * n_tensors, -1), columns=list(TENSOR_COLUMNS))
        for position, (name, values) in enumerate(
            {
                "step": np.repeat(self.steps, n_tensors),
                "tensor": np.tile(self.names, n_steps),
                "layer": np.tile(self.layers, n_steps),
                "parameters": np.tile(self.sizes, n_steps),
            }.items()
        ):
            layers.insert(position, name, values)
        counts = [column for column in TENSOR_COLUMNS if not column.startswith("lca")]
        layers[counts] = layers[counts].astype(np.int64)
        for column in ("helping", "hurting", "zero"):
            steps[column] = layers.groupby("step")[column].sum().to_numpy()
        steps["intervals"] = steps["intervals"].astype(np.int64)
        elements = pd.DataFrame([self.moments], columns=list(ELEMENT_COLUMNS))
        return {"steps": steps, "layers": layers, "histogram": self._histogram_table(), "elements": elements}

    def _histogram_table(self) -> pd.DataFrame:
        edges = 10.0 ** (DECADES[0] + np.arange(_N_BINS + 1) / BINS_PER_DECADE)
        parts = []
        for sign, name in enumerate(("helping", "hurting")):
            filled = self.histogram_count[sign] > 0
            parts.append(
                pd.DataFrame(
                    {
                        "sign": name,
                        "low": edges[:-1][filled],
                        "high": edges[1:][filled],
                        "count": self.histogram_count[sign][filled],
                        "sum": self.histogram_sum[sign][filled],
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)
