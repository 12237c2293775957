"""Planes through training trajectories (Li et al. 2018, arXiv 1712.09913, section 7, Figures 8 and 9).

The principal axes of the rows theta_k - theta_last are computed from their small Gram matrix ``[T, T]``. Besides the
checkpoints themselves, no array with T times the number of parameters is held in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from replication.errors import ReplicationError
from replication.landscape.directions import Ignore, kept_parameters
from replication.landscape.grid import Vector, as_vector
from replication.objective.vector import Slot

_COLUMNS = 2**18  # parameters at a time


@dataclass(frozen=True)
class TrajectoryPlane:
    """The plane of the first two principal axes of a trajectory.

    Attributes:
        direction_x, direction_y: orthonormal, float64 ``[n_parameters]``; the entry of largest magnitude is positive.
        coordinates: of every checkpoint relative to the last one (not to the mean), float64 ``[T, 2]``; the last row is zero.
        explained_variance: of all axes, in falling order ``[T]``: squared singular values / (T - 1).
        explained_variance_ratio: the same, divided by their sum.
        random_walk: mean ratios ``[T]`` of Gaussian random walks with as many parameters and the same step lengths: the ratios
            that diffusion alone would give (76 % in two axes of a long walk).
    """

    direction_x: Tensor
    direction_y: Tensor
    coordinates: Tensor
    explained_variance: Tensor
    explained_variance_ratio: Tensor
    random_walk: Tensor


def trajectory_plane(
    checkpoints: Tensor | np.ndarray | Sequence[Any],
    *,
    centring: bool = True,
    final_row: bool = True,
    ignore: Ignore = None,
    layout: Sequence[Slot] | None = None,
    generator: torch.Generator | None = None,
    walks: int = 10,
) -> TrajectoryPlane:
    """The plane of largest variance through checkpoints ``[T, n_parameters]`` (Figure 9).

    Args:
        checkpoints: a tensor, array or memory map; the last row is the minimiser around which the plane is drawn.
        centring: subtract the mean of the rows before finding the axes, as the official code does. The axes and ratios depend on it.
        final_row: keep the last checkpoint, a row of zeros, among the rows, as the official code does.
        ignore: parameters to leave out, as in ``kept_parameters``; needs ``layout``.
        layout: ``objective.layout``.
        generator: of the random walks; seed 0 by default.
        walks: how many random walks the control averages.

    Raises:
        ReplicationError: fewer than three checkpoints, rows that are not finite, all on one line, or ``ignore`` without a layout.

    Example:
        >>> path = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        >>> plane = trajectory_plane(path)
        >>> plane.coordinates.round(decimals=3).tolist()
        [[2.99, 0.247], [0.914, 1.079], [0.0, 0.0]]
        >>> plane.explained_variance_ratio.round(decimals=3).tolist()
        [0.88, 0.12, 0.0]
    """
    rows = _matrix(checkpoints)
    mask = _mask(ignore, layout, rows)
    gram, steps = _gram_of_differences(rows, mask)
    used = len(gram) if final_row else len(gram) - 1
    variance, vectors = _principal(gram[:used, :used], centring)
    if not variance[1] > 1e-12 * variance[0]:
        raise ReplicationError(f"The {len(rows)} checkpoints lie on one line, within rounding; a plane needs three that do not.")
    weights = vectors[:, :2] / (variance[:2] * (used - 1)).sqrt()
    if centring:
        weights = weights - weights.mean(0)
    directions = _combined(rows, weights, mask)
    n_free = rows.shape[1] if mask is None else int(mask.sum())
    control = random_walk_control(
        steps, n_free, generator=generator or torch.Generator().manual_seed(0), walks=walks, centring=centring, final_row=final_row
    )
    return TrajectoryPlane(
        direction_x=directions[0],
        direction_y=directions[1],
        coordinates=project(rows, directions),
        explained_variance=variance,
        explained_variance_ratio=variance / variance.sum(),
        random_walk=control,
    )


def project(checkpoints: Tensor | np.ndarray | Sequence[Any], directions: Sequence[Vector]) -> Tensor:
    """Coordinates ``[T, n_directions]`` of theta_k - theta_last by least squares.

    Args:
        checkpoints: ``[T, n_parameters]``, as in ``trajectory_plane``.
        directions: ``[n_parameters]`` each; they need not have unit length or be orthogonal, nor independent.

    Raises:
        ReplicationError: fewer than three checkpoints.

    Example:
        >>> path = torch.tensor([[3.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        >>> project(path, [torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0])]).tolist()
        [[1.5, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    rows = _matrix(checkpoints)
    basis = torch.stack([as_vector(direction, "direction").double() for direction in directions]).to(_device(rows))
    products = torch.zeros(len(rows), len(basis), dtype=torch.float64, device=basis.device)
    for columns, block in _blocks(rows):
        products += (block - block[-1]) @ basis[:, columns].T
    squares = basis @ basis.T
    independent = int(torch.linalg.matrix_rank(squares, hermitian=True)) == len(basis)
    return torch.linalg.solve(squares, products.T).T if independent else products @ torch.linalg.pinv(squares, hermitian=True)


def captured_variance(checkpoints: Tensor | np.ndarray | Sequence[Any], directions: Sequence[Vector]) -> float:
    """Share of the trajectory's variance in the span of ``directions``; about 2 / n_parameters for two random ones (section 7.1).

    Args:
        checkpoints: ``[T, n_parameters]``, as in ``trajectory_plane``.
        directions: ``[n_parameters]`` each.

    Raises:
        ReplicationError: fewer than three checkpoints, or rows that are not finite.

    Example:
        >>> path = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 0.0], [3.0, 0.0, 4.0], [0.0, 0.0, 0.0]])
        >>> round(captured_variance(path, [torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])]), 6)
        0.36
    """
    rows = _matrix(checkpoints)
    basis = torch.linalg.qr(torch.stack([as_vector(direction, "direction").double() for direction in directions]).T.to(_device(rows)))[0]
    inside = project(rows, list(basis.T))
    gram, _ = _gram_of_differences(rows, None)
    return float((inside - inside.mean(0)).square().sum() / _centred(gram).trace())


def random_walk_control(
    steps: Tensor, n_parameters: int, *, generator: torch.Generator, walks: int = 10, centring: bool = True, final_row: bool = True
) -> Tensor:
    """Mean explained variance ratios ``[T]`` of Gaussian random walks with T - 1 ``steps`` of these lengths.

    Only the Gram matrix of the steps is needed. It follows a Wishart distribution, so no walk of ``n_parameters`` is drawn.

    Args:
        steps: lengths of the steps ``[T - 1]``.
        n_parameters: dimensions of the walk.
        generator: the draws depend on its state only.
        walks: how many walks are averaged.
        centring, final_row: as in ``trajectory_plane``.

    Example:
        >>> ratios = random_walk_control(torch.ones(200), 10_000, generator=torch.Generator().manual_seed(0))
        >>> ratios[:2].round(decimals=2).tolist()  # in theory 6 / pi^2 and a quarter of it
        [0.61, 0.15]
    """
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator, device=generator.device)))
    n_steps, ratios = len(steps), []
    for _ in range(walks):
        if n_parameters > n_steps:
            gram = stats.wishart(n_parameters, np.eye(n_steps)).rvs(random_state=random).reshape(n_steps, n_steps)
        else:
            draws = random.standard_normal((n_steps, n_parameters))
            gram = draws @ draws.T
        scaled = torch.from_numpy(gram) * torch.outer(steps.cpu().double(), steps.cpu().double())
        # theta_k - theta_last is minus the sum of the steps from k on; the last row is zero
        tails = torch.triu(torch.ones(n_steps + 1, n_steps, dtype=torch.float64))
        walk = tails @ scaled @ tails.T
        used = len(walk) if final_row else len(walk) - 1
        variance, _ = _principal(walk[:used, :used], centring)
        ratios.append(variance / variance.sum())
    return torch.stack(ratios).mean(0)


def _matrix(checkpoints: Any) -> Tensor | np.ndarray:
    rows = torch.stack([torch.as_tensor(row) for row in checkpoints]) if isinstance(checkpoints, list | tuple) else checkpoints
    if len(rows.shape) != 2 or len(rows) < 3:
        raise ReplicationError(f"The checkpoints have shape {tuple(rows.shape)}; a plane needs three or more vectors of parameters.")
    return rows.detach() if isinstance(rows, Tensor) else rows


def _blocks(rows: Tensor | np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """Columns of all rows in float64, so many at a time that a memory map is never read whole."""
    for first in range(0, rows.shape[1], _COLUMNS):
        columns = slice(first, first + _COLUMNS)
        block = rows[:, columns]
        yield columns, (block if isinstance(block, Tensor) else torch.from_numpy(np.array(block))).double()


def _device(rows: Tensor | np.ndarray) -> torch.device:
    return rows.device if isinstance(rows, Tensor) else torch.device("cpu")


def _mask(ignore: Ignore, layout: Sequence[Slot] | None, rows: Tensor | np.ndarray) -> Tensor | None:
    if ignore is None:
        return None
    if layout is None or layout[-1].stop != rows.shape[1]:
        raise ReplicationError(f"ignore is {ignore!r}, which needs the layout of the {rows.shape[1]} parameters; give layout=.")
    return kept_parameters(layout, ignore, _device(rows))


def _gram_of_differences(rows: Tensor | np.ndarray, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gram matrix ``[T, T]`` of theta_k - theta_last and the lengths ``[T - 1]`` of the steps, float64, a block of parameters at a time."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=_device(rows))
    squares = torch.zeros(len(rows) - 1, dtype=torch.float64, device=_device(rows))
    for columns, block in _blocks(rows):
        block = block if mask is None else block * mask[columns]
        difference = block - block[-1]
        gram += difference @ difference.T
        squares += block.diff(dim=0).square().sum(1)
    if not torch.isfinite(gram).all():
        bad = int((~torch.isfinite(gram.diagonal())).sum())
        raise ReplicationError(
            f"{bad} of the {len(rows)} checkpoints are not finite; leave out the rows that a diverged run never reached."
        )
    return gram, squares.sqrt()


def _centred(gram: Tensor) -> Tensor:
    return gram - gram.mean(0) - gram.mean(1, keepdim=True) + gram.mean()


def _principal(gram: Tensor, centring: bool) -> tuple[Tensor, Tensor]:
    """Variances ``[T]`` in falling order and the Gram matrix's unit eigenvectors ``[T, T]`` in its columns."""
    values, vectors = torch.linalg.eigh(_centred(gram) if centring else gram)
    return values.flip(0).clamp(min=0) / (len(gram) - 1), vectors.flip(1)


def _combined(rows: Tensor | np.ndarray, weights: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sums of rows theta_k - theta_last with ``weights`` ``[T or T - 1, 2]``, signs fixed."""
    pieces = []
    for _, block in _blocks(rows):
        pieces.append((block[: len(weights)] - block[-1]).T @ weights)
    axes = torch.cat(pieces) if mask is None else torch.cat(pieces) * mask[:, None]
    largest = axes.abs().argmax(0)
    axes = axes * axes.gather(0, largest[None]).sign()
    return axes[:, 0].contiguous(), axes[:, 1].contiguous()
