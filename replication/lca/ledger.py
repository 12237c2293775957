"""What is added up along a trajectory: every sum that the figures need.

Its memory is steps x tensors (sums of each step over each parameter tensor) and one number per parameter, never steps x parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.lca.allocation import Allocation
from replication.lca.distributions import binomial_shares, fraction_holding, gini, top_share
from replication.lca.span_sums import SpanSums
from replication.objective.vector import Slot

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
    "validation_loss_start",
    "validation_loss_end",
)
TENSOR_COLUMNS = ("lca", "helping", "hurting", "zero", "lca_shuffled", "helping_shuffled", "hurting_shuffled", "validation")
TURN_COLUMNS = ("weight_turns", "gradient_turns")
ELEMENT_COLUMNS = ("elements", "zeros", "non_finite", "sum", "sum_of_squares", "sum_of_fourth_powers")
# logarithmic bins of abs(A): a Weibull fit on bins this fine differs from one on the elements by less than 1e-3
BINS_PER_DECADE = 40
DECADES = (-24, 4)
_N_BINS = BINS_PER_DECADE * (DECADES[1] - DECADES[0])
SHARE_BINS = np.linspace(0, 100, 201)  # per cent of the iterations in which a parameter helps

Trace = tuple[str, range]  # a layer, and the steps in which its parameters are followed one by one


@dataclass
class Ledger(SpanSums):
    """What ``lca.along`` adds up; sums are float64.

    Attributes:
        names, layers, sizes: of the parameter tensors, in order.
        steps: ``[n_steps]``, the number of each step.
        per_step: ``[n_steps, len(STEP_COLUMNS)]``.
        statistics: loss change by running statistics that moved before the weights ``[n_steps]``; nan where they are not followed.
        per_tensor: ``[n_steps, n_tensors, len(TENSOR_COLUMNS)]``.
        totals, helping, hurting: ``[n_parameters]``: sum of A, and number of steps with A < 0 and with A > 0.
        histogram_count, histogram_sum: ``[2, n_bins]``: number and sum of abs(A) in logarithmic bins; row 0 helps, row 1 hurts.
        moments: number of elements, of zeros, of non-finite ones; sums of A, A^2 and A^4 over the finite ones.
        turns: ``[n_tensors, len(TURN_COLUMNS)]``: how often, over parameters and steps, a movement is against the one before and
            the gradient at the end of a step is against the one at its start (strictly; zeros are no turn).
        per_class: ``[n_steps, n_tensors, n_classes]``: sums of A of each class's share; without classes the last is 0.
        traced: name of the layer followed, or "" for none.
        trace: ``[n_traced_steps, 3, n_traced]``: weight at the start, gradient there, A; ``trace_steps`` are their numbers.

    >>> layout = (Slot("weight", "", torch.Size([1, 2]), 0, 2),)
    >>> ledger = Ledger.empty(layout, range(0, 5))
    >>> ledger.per_tensor.shape, ledger.totals.shape
    ((5, 1, 8), (2,))
    """

    PER_NETWORK = ("names", "layers", "sizes", "traced")
    PER_STEP = ("steps", "per_step", "statistics", "per_tensor", "per_class", "trace", "trace_steps")

    layers: list[str]
    per_step: np.ndarray
    statistics: np.ndarray
    per_tensor: np.ndarray
    totals: np.ndarray
    helping: np.ndarray
    hurting: np.ndarray
    histogram_count: np.ndarray
    histogram_sum: np.ndarray
    moments: np.ndarray
    turns: np.ndarray
    per_class: np.ndarray
    traced: str
    trace: np.ndarray
    trace_steps: np.ndarray

    @classmethod
    def empty(cls, layout: Sequence[Slot], steps: range, *, n_classes: int = 0, trace: Trace | None = None) -> Self:
        """A ledger with a row for each step and nothing entered yet.

        Args:
            layout: where each parameter tensor lies in the flat vector.
            n_classes: of the split over classes; 0 for none.
            trace: a layer, and the steps in which its parameters are kept one by one.

        Raises:
            ReplicationError: the traced layer does not exist.
        """
        n_parameters = layout[-1].stop
        layers = [slot.layer for slot in layout]
        if trace is not None and trace[0] not in layers:
            raise ReplicationError(f"There is no layer '{trace[0]}' to trace; allowed: {', '.join(dict.fromkeys(layers))}.")
        traced = [step for step in trace[1] if step in steps] if trace is not None else []
        n_traced = sum(slot.stop - slot.start for slot in layout if trace is not None and slot.layer == trace[0])
        return cls(
            names=[slot.name for slot in layout],
            layers=layers,
            sizes=[slot.stop - slot.start for slot in layout],
            steps=np.arange(steps.start, steps.stop),
            per_step=np.full((len(steps), len(STEP_COLUMNS)), np.nan),
            statistics=np.full(len(steps), np.nan),
            per_tensor=np.full((len(steps), len(layout), len(TENSOR_COLUMNS)), np.nan),
            totals=np.zeros(n_parameters),
            helping=np.zeros(n_parameters, dtype=np.int64),
            hurting=np.zeros(n_parameters, dtype=np.int64),
            histogram_count=np.zeros((2, _N_BINS), dtype=np.int64),
            histogram_sum=np.zeros((2, _N_BINS)),
            moments=np.zeros(6),
            turns=np.zeros((len(layout), len(TURN_COLUMNS))),
            per_class=np.full((len(steps), len(layout), n_classes), np.nan),
            traced=trace[0] if trace is not None else "",
            trace=np.full((len(traced), 3, n_traced), np.nan),
            trace_steps=np.array(traced, dtype=np.int64),
        )

    def enter(self, step: int, allocation: Allocation, permutation: Tensor, before: Tensor | None, statistics: float | None = None) -> None:
        """Add one step.

        Args:
            step: its number, one of ``steps``.
            permutation: ``[n_parameters]``, shuffles the gradient for the control.
            before: movement of the step before ``[n_parameters]``; None for the first.
            statistics: change of the loss before the weights moved, by running statistics; None where they are not followed.
        """
        row = step - int(self.steps[0])
        change = allocation.change
        shuffled = allocation.mean_gradient[permutation] * allocation.movement
        validation = torch.full_like(change, torch.nan) if allocation.validation is None else allocation.validation
        columns = [change, change < 0, change > 0, change == 0, shuffled, shuffled < 0, shuffled > 0, validation]
        self.per_tensor[row] = self._over_tensors(torch.stack([column.double() for column in columns]))
        if allocation.by_class is not None:
            self.per_class[row] = self._over_tensors(allocation.by_class)
        turned = allocation.movement * before < 0 if before is not None else torch.zeros_like(change, dtype=torch.bool)
        against = allocation.gradient_start * allocation.gradient_end < 0
        self.turns += self._over_tensors(torch.stack([turned.double(), against.double()]))
        self.statistics[row] = np.nan if statistics is None else statistics
        self.per_step[row] = (
            allocation.loss_start if statistics is None else allocation.loss_start - statistics,
            allocation.loss_end,
            change.sum().item(),
            allocation.error,
            allocation.intervals,
            allocation.first_order.sum().item(),
            allocation.trapezoid.sum().item(),
            shuffled.sum().item(),
            (allocation.gradient_start[permutation] @ allocation.movement).item(),
            *allocation.validation_losses,
        )
        values = change.cpu().numpy()
        self.totals += values
        self.helping += values < 0
        self.hurting += values > 0
        self._enter_distribution(values)

    def enter_trace(self, step: int, weights: Tensor, allocation: Allocation) -> None:
        """Add the weights at the start of a traced step, their gradients and their A."""
        inside = torch.tensor([layer == self.traced for layer in self.layers]).repeat_interleave(torch.tensor(self.sizes))
        values = torch.stack([weights, allocation.gradient_start, allocation.change]).cpu()
        self.trace[np.flatnonzero(self.trace_steps == step)[0]] = values[:, inside].numpy()

    def _over_tensors(self, values: Tensor) -> np.ndarray:
        """Sums of ``[n_rows, n_parameters]`` over each tensor, ``[n_tensors, n_rows]``."""
        return torch.stack([part.sum(1) for part in values.split(self.sizes, dim=1)]).cpu().numpy()

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
        """Tidy tables.

        ``steps``: a row per step, with ``statistics`` where running statistics were followed.
        ``layers``: a row per step and parameter tensor. ``histogram``: a row per sign and non-empty bin of
        abs(A). ``elements``: one row, number of elements, of zeros and non-finite ones, sums of powers. ``parameters``: over
        parameters, the distribution of the share of iterations in which each helps, beside what independent coin flips would give.
        ``concentration``: how much of the learning few of the elements and of the parameters do. ``oscillation``: turns per tensor.
        Where they were asked for, ``classes``: a row per step, layer and class, and ``traces``: weight, gradient and A of the most
        helping and the most hurting parameter of the traced layer.
        """
        steps = pd.DataFrame(self.per_step, columns=list(STEP_COLUMNS))
        steps.insert(0, "step", self.steps)
        if not np.isnan(self.statistics).all():
            steps.insert(list(steps).index("error"), "statistics", self.statistics)
        layers = self._layers_table()
        for column in ("helping", "hurting", "zero"):
            steps[column] = layers.groupby("step")[column].sum().to_numpy()
        steps["intervals"] = steps["intervals"].astype(np.int64)
        elements = pd.DataFrame([self.moments], columns=list(ELEMENT_COLUMNS))
        tables = {"steps": steps, "layers": layers, "histogram": self._histogram_table(), "elements": elements}
        tables |= {"parameters": self._parameters_table(), "concentration": self._concentration_table()}
        oscillation = pd.DataFrame({"tensor": self.names, "layer": self.layers, "parameters": self.sizes})
        tables["oscillation"] = oscillation.assign(steps=len(self.steps), **dict(zip(TURN_COLUMNS, self.turns.T, strict=True)))
        if self.per_class.shape[2]:
            tables["classes"] = self._classes_table()
        if len(self.trace_steps):
            tables["traces"] = self._traces_table()
        return tables

    def _layers_table(self) -> pd.DataFrame:
        n_steps, n_tensors, _ = self.per_tensor.shape
        layers = pd.DataFrame(self.per_tensor.reshape(n_steps * n_tensors, -1), columns=list(TENSOR_COLUMNS))
        layers.insert(0, "step", np.repeat(self.steps, n_tensors))
        layers.insert(1, "tensor", self.names * n_steps)
        layers.insert(2, "layer", self.layers * n_steps)
        layers.insert(3, "parameters", list(self.sizes) * n_steps)
        counts = [column for column in TENSOR_COLUMNS if column not in ("lca", "lca_shuffled", "validation")]
        layers[counts] = layers[counts].astype(np.int64)
        return layers

    def _parameters_table(self) -> pd.DataFrame:
        """Parameters that are active (A is not 0) in at least half of the iterations, by their share of helping iterations."""
        active = self.helping + self.hurting
        kept = active >= max(1, len(self.steps) / 2)
        helping, trials = self.helping[kept], active[kept]
        chance = helping.sum() / max(trials.sum(), 1)
        counts = np.histogram(100 * helping / trials, SHARE_BINS)[0]
        columns = {"low": SHARE_BINS[:-1], "high": SHARE_BINS[1:], "parameters": counts}
        return pd.DataFrame(columns | {"coins": binomial_shares(trials, chance, SHARE_BINS)})

    def _concentration_table(self) -> pd.DataFrame:
        """Of helping elements (one parameter, one iteration) and of parameters whose total helps; each with its weight."""
        filled = self.histogram_count[0] > 0
        amounts = self.histogram_sum[0][filled] / self.histogram_count[0][filled]
        helped = -self.totals[self.totals < 0]
        sets = {"elements": (amounts, self.histogram_count[0][filled]), "parameters": (helped, np.ones(len(helped), dtype=np.int64))}
        rows = [
            {
                "of": name,
                "number": int(counts.sum()),
                "gini": gini(values, counts),
                "top_1_percent_hold": top_share(values, counts, 0.01),
                "percent_holding_90": fraction_holding(values, counts, 0.9),
            }
            for name, (values, counts) in sets.items()
        ]
        return pd.DataFrame(rows)

    def _classes_table(self) -> pd.DataFrame:
        layers = list(dict.fromkeys(self.layers))
        members = np.array([[layer == name for layer in self.layers] for name in layers], dtype=float)
        sums = np.einsum("lt,stc->slc", members, self.per_class)
        index = pd.MultiIndex.from_product([self.steps, layers, range(sums.shape[2])], names=["step", "layer", "class"])
        return pd.DataFrame({"lca": sums.ravel()}, index=index).reset_index()

    def _traces_table(self) -> pd.DataFrame:
        net = self.trace[:, 2].sum(0)
        parts = []
        for role, chosen in (("most helping", int(net.argmin())), ("most hurting", int(net.argmax()))):
            weight, gradient, change = self.trace[:, :, chosen].T
            columns = {"step": self.trace_steps, "role": role, "layer": self.traced, "parameter": chosen}
            parts.append(pd.DataFrame(columns | {"weight": weight, "gradient": gradient, "lca": change}))
        return pd.concat(parts, ignore_index=True)

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
