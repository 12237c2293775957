"""Sampled loss change allocation: sums over tensors and layers, estimated from random subsets of the training set.

Where only sums over layers are wanted, the gradient over the whole set is wasteful: the mean over a random subset is an unbiased
estimate of it, with a standard error. A subset drawn anew in every step gives steps whose errors are independent. One fixed
subset, drawn independently of the path, is as unbiased and needs one gradient less per step; its totals over a run are more
accurate, because what an example gains in one step and loses in another cancels. This goes beyond the paper (Lan et al. 2019),
which always uses the whole set.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.lca.path import check_steps, path_of, permutation_of
from replication.lca.span_sums import SpanSums
from replication.objective.objective import Objective


@dataclass
class SampledLedger(SpanSums):
    """Estimates of the sums of A over parameter tensors and over layers, per step and over the steps.

    Attributes:
        names: of the parameter tensors and then of the layers, in order.
        kinds: "tensor" or "layer" for each name.
        sizes: how many parameters each has.
        steps: ``[n_steps]``, the number of each step.
        groups: ``[n_steps]``: number of groups that a step's standard errors come from.
        lca: ``[n_steps, n_names]``: estimate of the sum of A, in loss units.
        standard_error: ``[n_steps, n_names]``: from the spread between the groups of the step's subset. A layer's comes from its own
            sums, because the errors of its tensors are correlated.
        share: ``[n_steps]``: m / n, the fraction of the examples that a step uses.
        group_totals: ``[n_groups, n_names]``: sums over the steps of each group's estimate.
        shuffled_totals: ``[n_names]``: the control, sums over the steps with the gradient's entries permuted over all parameters.
    """

    PER_NETWORK = ("names", "kinds", "sizes")
    PER_STEP = ("steps", "groups", "share", "lca", "standard_error")

    kinds: list[str]
    groups: np.ndarray
    lca: np.ndarray
    standard_error: np.ndarray
    share: np.ndarray
    group_totals: np.ndarray
    shuffled_totals: np.ndarray

    def tables(self) -> dict[str, pd.DataFrame]:
        """Tidy tables ``tensors`` and ``layers``, each with a row per step and tensor or layer, and ``totals`` over the steps.

        A total's standard error comes from the spread of the groups' totals, with groups - 1 degrees of freedom.
        """
        n_steps, n_names = self.lca.shape
        columns = {
            "step": np.repeat(self.steps, n_names),
            "kind": np.tile(self.kinds, n_steps),
            "name": np.tile(self.names, n_steps),
            "parameters": np.tile(self.sizes, n_steps),
            "lca": self.lca.ravel(),
            "standard_error": self.standard_error.ravel(),
            "groups": np.repeat(self.groups, n_names),
        }
        table = pd.DataFrame(columns)
        tables = {}
        for kind in ("tensor", "layer"):
            rows = table[table["kind"] == kind].rename(columns={"name": kind}).drop(columns="kind")
            tables[f"{kind}s"] = rows.reset_index(drop=True)
        return tables | {"totals": self._totals()}

    def _totals(self) -> pd.DataFrame:
        n_groups = len(self.group_totals)
        variance = self.group_totals.var(0, ddof=1) / n_groups * (1 - self.share[0])
        columns = {"kind": self.kinds, "name": self.names, "parameters": self.sizes, "lca": self.lca.sum(0)}
        columns |= {"standard_error": np.sqrt(variance), "lca_shuffled": self.shuffled_totals}
        return pd.DataFrame(columns | {"groups": n_groups, "share": self.share[0]})


Subset = Callable[[int], Tensor]  # step -> indices of examples


def random_subset(n: int, examples: int, *, seed: int = 0, fresh: bool = True) -> Subset:
    """Step -> indices ``[examples]`` out of ``range(n)`` without replacement, in random order.

    Args:
        fresh: whether every step has a subset of its own; otherwise all steps share one.

    Raises:
        ReplicationError: more examples than there are, or none.

    >>> fresh, fixed = random_subset(100, 10), random_subset(100, 10, fresh=False)
    >>> torch.equal(fresh(0), fresh(1)), torch.equal(fixed(0), fixed(1))
    (False, True)
    """
    if not 0 < examples <= n:
        raise ReplicationError(f"The subset has {examples} examples; allowed: 1 to {n}.")

    def draw(key: int) -> Tensor:
        return torch.from_numpy(np.random.default_rng([seed, key]).choice(n, examples, replace=False))

    fixed = None if fresh else draw(0)
    return lambda step: draw(step + 1) if fixed is None else fixed


def along(
    objective: Objective,
    trajectory: Any,
    *,
    subset: Subset,
    buffers: np.ndarray | Tensor | None = None,
    groups: int = 10,
    intervals: int = 2,
    steps: range | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SampledLedger:
    """Estimate the sums of A over tensors and layers in every step from a subset of the examples.

    Composite Simpson's rule, all points of a step on the same subset. The subset is cut into groups: their mean is the estimate, and
    their spread gives its standard error, with the factor sqrt(1 - m/n) of sampling m of n examples without replacement. Where the
    subset stays the same, the gradients at the end of a step are kept for the next. The result does not depend on how the steps are
    cut into spans.

    Args:
        trajectory: the path of the training, as in ``lca.along``.
        buffers: running statistics, as in ``lca.along``; each step is allocated at those of its end.
        subset: step -> indices of examples, such as ``random_subset``.
        groups: parts of equal size; where batch statistics couple examples, each is one chunk of the objective.
        intervals: even number of Simpson intervals in a step.
        steps: which steps, all by default.
        progress: called with (steps done, steps in all).

    Raises:
        ReplicationError: groups that do not divide a subset or are fewer than two, an odd number of intervals, subsets of
            different sizes, a trajectory of another network.

    >>> objective = Objective(torch.nn.Linear(1, 2), torch.arange(8.0)[:, None], torch.arange(8) % 2)
    >>> ledger = along(objective, torch.tensor([[0.0] * 4, [0.1] * 4]), subset=random_subset(8, 8), groups=2)
    >>> ledger.tables()["tensors"][["tensor", "standard_error"]].to_numpy().tolist()  # the whole set: no sampling error
    [['weight', 0.0], ['bias', 0.0]]
    """
    if intervals < 2 or intervals % 2:
        raise ReplicationError(f"There are {intervals} intervals; allowed: 2, 4, 6, ...")
    path = path_of(objective, trajectory, buffers)
    steps = check_steps(path, steps)
    # the groups' estimates; their gradients at the end of the last step, its subset and its statistics
    estimates: list[Tensor] = []
    known: list[Tensor] | None = None
    last, held = None, None
    shuffled = torch.zeros(len(objective.layout), dtype=torch.float64, device=objective.device)
    for done, step in enumerate(steps, start=1):
        members = subset(step)
        _check_groups(len(members), groups, None if last is None else len(last))
        same, statistics = last is not None and torch.equal(members, last), path.buffers(step + 1)
        if not same or (statistics is not None and held is not None and not torch.equal(statistics, held)):
            known = None
        start = path.weights(step)
        movement = path.weights(step + 1) - start
        means, known = _mean_gradients(objective, start, movement, members.chunk(groups), intervals, known, statistics)
        estimates.append(_over_tensors(objective, means * movement))
        shuffled += _over_tensors(objective, means.mean(0)[permutation_of(step, objective)] * movement)
        last, held = members, statistics
        if progress is not None:
            progress(done, len(steps))
    share = len(last) / objective.n_examples if last is not None else 0.0
    return _ledger(objective, steps, torch.stack(estimates), shuffled, share)


def _ledger(objective: Objective, steps: range, estimates: Tensor, shuffled: Tensor, share: float) -> SampledLedger:
    """The ledger of the groups' sums over tensors ``[n_steps, n_groups, n_tensors]``, and of the control's ``[n_tensors]``."""
    sums, sizes = _sums_over_tensors_and_layers(objective)
    layers = list(dict.fromkeys(slot.layer for slot in objective.layout))
    by_group = torch.stack([step @ sums.T for step in estimates]).cpu().numpy()  # [n_steps, n_groups, n_names]
    n_steps, groups, _ = by_group.shape
    return SampledLedger(
        names=[*(slot.name for slot in objective.layout), *layers],
        kinds=["tensor"] * len(objective.layout) + ["layer"] * len(layers),
        sizes=sizes.tolist(),
        steps=np.arange(steps.start, steps.stop),
        groups=np.full(n_steps, groups),
        lca=by_group.mean(1),
        standard_error=np.sqrt(by_group.var(1, ddof=1) / groups * (1 - share)),
        share=np.full(n_steps, share),
        group_totals=by_group.sum(0),
        shuffled_totals=(sums @ shuffled).cpu().numpy(),
    )


def _check_groups(examples: int, groups: int, before: int | None) -> None:
    if groups < 2 or examples % groups:
        raise ReplicationError(f"A subset of {examples} examples is to be cut into {groups} groups; allowed: 2 or more that divide it.")
    if before not in (None, examples):
        raise ReplicationError(f"A step's subset has {examples} examples and the one before it {before}; give subsets of one size.")


def _sums_over_tensors_and_layers(objective: Objective) -> tuple[Tensor, Tensor]:
    """The matrix that takes sums over tensors to sums over tensors and layers ``[n_names, n_tensors]``, and the parameters of each."""
    layers = dict.fromkeys(slot.layer for slot in objective.layout)
    in_layer = torch.tensor([[slot.layer == layer for slot in objective.layout] for layer in layers]).double()
    sums = torch.cat([torch.eye(len(objective.layout), dtype=torch.float64), in_layer])
    sizes = sums @ torch.tensor([slot.stop - slot.start for slot in objective.layout], dtype=torch.float64)
    return sums.to(objective.device), sizes.long()


def _mean_gradients(
    objective: Objective,
    start: Tensor,
    movement: Tensor,
    parts: Sequence[Tensor],
    intervals: int,
    known: list[Tensor] | None,
    buffers: Tensor | None,
) -> tuple[Tensor, list[Tensor]]:
    """Composite Simpson's rule: each group's mean gradient along the step ``[n_groups, n_parameters]``, and its gradient at the end.

    ``known``: the groups' gradients at the start, where the last step ended with the same groups.
    """
    fractions = torch.arange(intervals + 1, dtype=torch.float64, device=movement.device) / intervals
    weights = torch.full_like(fractions, 2)
    weights[1::2], weights[0], weights[-1] = 4, 1, 1
    points = start + fractions[:, None] * movement
    means, ends = [], []
    for index, members in enumerate(parts):
        if known is None:
            gradients = objective.gradients_on(points, members, buffers=buffers)
        else:
            gradients = torch.cat([known[index][None], objective.gradients_on(points[1:], members, buffers=buffers)])
        means.append((weights @ gradients) / (3 * intervals))
        ends.append(gradients[-1])
    return torch.stack(means), ends


def _over_tensors(objective: Objective, values: Tensor) -> Tensor:
    """Sums of ``[..., n_parameters]`` over each tensor ``[..., n_tensors]``."""
    return torch.stack([part.sum(-1) for part in values.split([slot.stop - slot.start for slot in objective.layout], dim=-1)], dim=-1)
