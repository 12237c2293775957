"""Exact loss change allocation on two losses of two parameters, on which it can be followed by eye (LCA, Figure 1 and oscillations).

Both are ordinary training problems: an objective over a few examples, and mini-batches of one example. As always, what is allocated
is the change of the loss over all examples.
"""

import cmath
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from replication.lca.ledger import STEP_COLUMNS, TENSOR_COLUMNS
from replication.lca.trajectory import along
from replication.measurements import Arrays, Progress, Tables
from replication.objective.objective import Objective
from replication.schema.lca import LcaToyConfig
from replication.training.trained_run import TrainedRun

COUPLING = 0.5
PERIOD = 8  # batches in a cycle of the oscillation; the paper's networks turn every 7 to 10 iterations
STEP_SIZE = 0.3  # learning rate / (1 - momentum), the same at every momentum
PULL = 0.4  # strength with which a batch of ``idle`` moves the idle parameter
MEMORY = 1  # delay of the first parameter of ``oscillation``, the same throughout
_MAX_ERROR = 1e-12  # the losses are quadratic, for which Simpson's rule is exact


def measure(config: LcaToyConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Path and allocations of the idle parameter; allocations of the oscillation at every delay, and without coupling at the last one."""
    path = idle_path(config.steps, torch.Generator().manual_seed(seed))
    arrays = {"path": path.numpy(), **_allocations(idle(), path, "idle")}
    cases = [(delay, COUPLING) for delay in config.delays] + [(config.delays[-1], 0.0)]
    for number, (delay, coupling) in enumerate(cases):
        path = oscillation_path(config.oscillation_steps, delay, coupling=coupling, first=seed)
        arrays |= _allocations(oscillation(coupling), path, f"oscillation_{number}")
        progress(number + 1, len(cases))
    return arrays | {"cases": np.array(cases)}


def _allocations(objective: Objective, path: Tensor, name: str) -> Arrays:
    ledger = along(objective, path, max_error=_MAX_ERROR)
    return {f"{name}_tensors": ledger.per_tensor, f"{name}_steps": ledger.per_step}


def tables(config: LcaToyConfig, parts: Sequence[Arrays]) -> Tables:
    """``path``: the weights of the first toy; ``idle`` and ``oscillation``: a row per step with the allocation to each parameter.

    ``oscillation`` has the delay of theta_2, its momentum, the coupling and the exact allocation per step far from the start.
    """
    (arrays,) = parts
    path = pd.DataFrame(arrays["path"], columns=["theta_1", "theta_2"]).rename_axis("step").reset_index()
    oscillations = []
    for number, (delay, coupling) in enumerate(arrays["cases"]):
        steady = steady_allocation(delay, coupling)
        about = {"delay": delay, "momentum": momentum_of(delay), "coupling": coupling, "steady_theta_2": steady}
        oscillations.append(_steps(arrays, f"oscillation_{number}").assign(**about))
    return {"path": path, "idle": _steps(arrays, "idle"), "oscillation": pd.concat(oscillations, ignore_index=True)}


def _steps(arrays: Arrays, name: str) -> pd.DataFrame:
    table = pd.DataFrame(arrays[f"{name}_steps"], columns=list(STEP_COLUMNS))[["loss_start", "loss_end"]]
    table.insert(0, "step", range(len(table)))
    for column in ("lca", "lca_shuffled"):
        for number, parameter in enumerate(("theta_1", "theta_2")):
            table[f"{column}_{parameter}"] = arrays[f"{name}_tensors"][:, number, TENSOR_COLUMNS.index(column)]
    return table


class _Parameters(nn.Module):
    """A network whose output for every example is its two parameters ``[n_examples, 2]``."""

    def __init__(self) -> None:
        super().__init__()
        self.theta_1 = nn.Parameter(torch.zeros(1))
        self.theta_2 = nn.Parameter(torch.zeros(1))

    def forward(self, rows: Tensor) -> Tensor:
        return torch.cat([self.theta_1, self.theta_2]).expand(len(rows), 2)


def idle() -> Objective:
    """The loss theta_1^2 / 2, which does not depend on theta_2: two examples pull it to opposite sides with equal strength.

    >>> idle().gradient(torch.tensor([2.0, 5.0])).tolist()
    [2.0, 0.0]
    """
    sides = torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def loss(theta: Tensor, side: Tensor) -> Tensor:
        return theta[:, 0] ** 2 / 2 + PULL * side * theta[:, 1]

    return Objective(_Parameters(), sides[:, None], sides, loss=loss, dtype=torch.float64)


def idle_path(steps: int, generator: torch.Generator) -> Tensor:
    """Training on one random example at a time from (-2, 0): ``[steps + 1, 2]``; theta_2 wanders, theta_1 descends."""
    examples = torch.randint(2, (steps,), generator=generator)
    return descend(idle(), torch.tensor([-2.0, 0.0]), examples, momenta=(0.0, 0.0))


def oscillation(coupling: float) -> Objective:
    """(theta - c)' H (theta - c) / 2 over ``PERIOD`` examples, H = [[1, coupling], [coupling, 1]]; the c_k oscillate in phase.

    Both components of c_k are cos(2 pi k / PERIOD), so the mean is theta' H theta / 2 plus a constant.

    >>> oscillation(0.5).gradient(torch.tensor([1.0, 0.0])).numpy().round(12).tolist()
    [1.0, 0.5]
    """
    phase = 2 * math.pi * torch.arange(PERIOD, dtype=torch.float64) / PERIOD
    centres = phase.cos()[:, None].expand(-1, 2).contiguous()
    curvature = torch.tensor([[1, coupling], [coupling, 1]], dtype=torch.float64)

    def loss(theta: Tensor, centre: Tensor) -> Tensor:
        return ((theta - centre) @ curvature * (theta - centre)).sum(1) / 2

    return Objective(_Parameters(), centres, centres, loss=loss, dtype=torch.float64)


def oscillation_path(steps: int, delay: int, *, coupling: float, first: int = 0) -> Tensor:
    """Training on the examples in turn from (1, 1): ``[steps + 1, 2]``.

    Args:
        delay: mean age of the gradients that move theta_2, m / (1 - m); that of theta_1 is ``MEMORY``.
        first: the example to begin with.
    """
    examples = (first + torch.arange(steps)) % PERIOD
    return descend(oscillation(coupling), torch.ones(2), examples, momenta=(momentum_of(MEMORY), momentum_of(delay)))


def momentum_of(delay: float) -> float:
    """The momentum at which gradients are ``delay`` iterations old on average: delay / (1 + delay).

    >>> momentum_of(9)
    0.9
    """
    return delay / (1 + delay)


def descend(objective: Objective, start: Tensor, examples: Tensor, *, momenta: tuple[float, float]) -> Tensor:
    """Gradient descent with a momentum for each parameter, one example per step, learning rates ``STEP_SIZE`` (1 - momentum).

    Returns the weights after 0, 1, ... steps, float64 ``[len(examples) + 1, 2]``.
    """
    momentum = torch.tensor(momenta, dtype=torch.float64)
    velocity = torch.zeros(2, dtype=torch.float64)
    points = [start.double()]
    for example in examples:
        velocity = momentum * velocity + objective.gradients_on(points[-1][None], example[None])[0]
        points.append(points[-1] - STEP_SIZE * (1 - momentum) * velocity)
    return torch.stack(points)


def steady_allocation(delay: float, coupling: float) -> float:
    """Exact allocation to theta_2 per iteration once the start is forgotten; theta_1 gets the opposite.

    With theta_j = Re(z_j e^{i w t}), w = 2 pi / PERIOD, the mean of A_2 is coupling / 2 sin(w) Im(z_1 conj(z_2)): half the coupling
    times both amplitudes times sin(w) times the sine of the angle by which theta_2 lags behind theta_1. A parameter's own
    curvature gives back in each cycle what it took, so without coupling the steady allocation is zero.

    >>> steady_allocation(MEMORY + 2, 0.5) > 0  # theta_2 lags behind theta_1: it hurts
    True
    >>> steady_allocation(MEMORY + 2, 0.0)
    0.0
    """
    turn = cmath.exp(2j * math.pi / PERIOD)
    momenta = np.array([momentum_of(MEMORY), momentum_of(delay)])
    gain = -STEP_SIZE * (1 - momenta) / (1 - momenta / turn)  # of the heavy ball, from gradient to movement
    curvature = np.array([[1, coupling], [coupling, 1]])
    moved = gain[:, None] * curvature
    z = np.linalg.solve((turn - 1) * np.eye(2) - moved, -moved @ np.ones(2))
    return float(coupling / 2 * turn.imag * (z[0] * z[1].conj()).imag)
