"""Whether the loss is a function of the parameters and of one example at a time, found out by evaluation."""

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.objective.arithmetic import Arithmetic, close, worst_disagreement
from replication.objective.example_sets import ExampleSet
from replication.objective.inputs import Tree, n_examples, take, tensors_of
from replication.objective.losses import ExampleLoss
from replication.objective.plain import computing

_FEW = 4  # examples of a pass that shows what does not depend on their number
_SCALE = 1e3  # of the losses: above and below it clipping of gradients shows
REPETITIONS = 64  # of a pass that draws random numbers: a branch taken once in ten passes is missed once in a thousand cases
LossesOf = Callable[[Tree, Tree], Tensor]
Result = TypeVar("Result")


def drawing(run: Callable[[], Result]) -> tuple[Result, bool]:
    """What ``run`` returns, and whether it draws random numbers: the state of torch's, numpy's or Python's generator changes.

    Example:
        >>> drawing(lambda: torch.rand(1).numel()), drawing(lambda: torch.ones(1).numel())
        ((1, True), (1, False))
    """
    before = _random_states()
    result = run()
    after = _random_states()
    return result, any(not torch.equal(a, b) if isinstance(a, Tensor) else a != b for a, b in zip(before, after, strict=True))


def _random_states() -> list[Any]:
    state: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002 - the generator that users' code shares
    numpy_state = state["state"]
    accelerator = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *accelerator, (numpy_state["key"].tobytes(), numpy_state["pos"]), random.getstate()]


def check_repeatable(arithmetic: Arithmetic, loss: ExampleLoss) -> None:
    """Evaluate the probe twice, and a few examples many times where random numbers are drawn.

    Raises:
        ReplicationError: evaluations disagree: the forward pass is random or keeps a state.
    """
    first, draws = drawing(lambda: arithmetic.losses(loss))
    _compare(first, arithmetic.losses(loss), arithmetic.tolerance)
    if draws:
        few = slice(0, min(len(first), 2)) if _runs_on_few(arithmetic, loss) else slice(None)
        expected = arithmetic.losses(loss, few)
        for _ in range(REPETITIONS):
            _compare(expected, arithmetic.losses(loss, few), arithmetic.tolerance)


def _runs_on_few(arithmetic: Arithmetic, loss: ExampleLoss) -> bool:
    try:
        arithmetic.losses(loss, slice(0, 2))
    except ReplicationError:
        return False
    return True


def _compare(first: Tensor, second: Tensor, tolerance: float) -> None:
    worst = worst_disagreement(first, second, tolerance)
    if worst is not None:
        raise ReplicationError(
            f"Two evaluations of the same example at the same parameters give the losses {first[worst].item():.6g} and "
            f"{second[worst].item():.6g}; the forward pass or the data draw random numbers or keep a state, so switch that off in "
            "evaluation mode (dropout modules are off already)."
        )


def check_linear_backward(arithmetic: Arithmetic, loss: ExampleLoss, theta: Tensor) -> None:
    """Raise an error where the gradient of a multiple of the losses is not that multiple of the gradient.

    Args:
        theta: where to look ``[n_parameters]``.

    Raises:
        ReplicationError: it is not, as with hooks that clip the gradient of an activation.
    """
    arithmetic.network.write(theta)
    few, weights = slice(0, _FEW), torch.ones(n_examples(arithmetic.labels, "labels"), dtype=torch.float64)
    try:
        large, small = (combined_gradient(arithmetic, loss, scale * weights, few) for scale in (_SCALE, 1 / _SCALE))
    except Exception:  # a network without derivatives still has values
        return
    if not close([piece / _SCALE**2 for piece in large], small, max(arithmetic.tolerance, 1e-6)):
        raise ReplicationError(
            "The gradient of a multiple of the loss is no multiple of the loss's gradient: the backward pass clips or scales gradients by "
            "their size (a hook, or a custom autograd Function), so there is no gradient of the mean loss; leave that out here."
        )


def check_padding(examples: ExampleSet, members: Tensor, together: Tree, losses_of: LossesOf, tolerance: float) -> None:
    """Compare the losses of examples in a batch with those of each put into a batch of its own, where it may be padded less.

    Args:
        members: indices of the examples ``[n]``; a few that are padded are compared.
        together: their inputs and labels in one batch.
        losses_of: inputs and labels to losses ``[n]``, float64.
        tolerance: relative.

    Raises:
        ReplicationError: the loss of an example depends on how far it is padded.
    """
    if not examples.makes_batches:
        return
    shapes = [tensor.shape[1:] for tensor in tensors_of(together)]
    each = ((place, examples.select(members[place : place + 1])) for place in range(len(members)))
    padded = [(place, alone) for place, alone in each if [tensor.shape[1:] for tensor in tensors_of(alone)] != shapes]
    padded.sort(key=lambda pair: sum(tensor.numel() for tensor in tensors_of(pair[1])))
    if not padded:
        return
    expected = losses_of(*together)
    for place, alone in padded[:_FEW]:
        loss = losses_of(*alone)[0]
        if not torch.allclose(loss, expected[place], rtol=tolerance, atol=tolerance, equal_nan=True):
            raise ReplicationError(
                f"An example has the loss {loss.item():.6g} in a batch of its own and {expected[place].item():.6g} where it is padded "
                "to the longest of others; leave padded positions out of the network's result (a mask, lengths), or pad all examples alike."
            )


def examples_interact(arithmetic: Arithmetic, loss: ExampleLoss, own: Tensor, theta: Tensor, unusual: Sequence[int] = ()) -> bool:
    """Whether the loss of an example, or its gradient, changes with the examples beside it.

    Args:
        own, theta: the model's parameters and moved ones ``[n_parameters]``: either may be a point where examples do not interact.
        unusual: examples that are also evaluated by themselves.
    """
    n = n_examples(arithmetic.labels, "labels")
    groups = [slice(n // 3, n - 1), slice(0, 1), slice(n - 1, n)]
    for point, more in ((own, ()), (theta, unusual)):
        arithmetic.network.write(point)
        if _losses_interact(arithmetic, loss, [*groups, *(slice(place, place + 1) for place in more)]):
            return True
    return _gradients_interact(arithmetic, loss)


def _losses_interact(arithmetic: Arithmetic, loss: ExampleLoss, subsets: Sequence[slice]) -> bool:
    together = arithmetic.losses(loss)
    n, tolerance = len(together), arithmetic.tolerance
    for subset in (subset for subset in subsets if 0 < subset.stop - subset.start < n):
        try:
            alone = arithmetic.losses(loss, subset)
        except ReplicationError:
            if subset.stop - subset.start == 1 and n > 3:  # networks that squeeze a batch of one away
                continue
            return True
        if not torch.allclose(alone, together[subset], rtol=tolerance, atol=tolerance, equal_nan=True):
            return True
    return False


def _gradients_interact(arithmetic: Arithmetic, loss: ExampleLoss) -> bool:
    """The gradient of a random combination of losses from one pass, against the one from two passes over halves."""
    n = n_examples(arithmetic.labels, "labels")
    weights = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halves = [half for half in (slice(0, n // 2), slice(n // 2, n)) if half.stop > half.start]
    try:
        whole = combined_gradient(arithmetic, loss, weights, slice(None))
        parts = [combined_gradient(arithmetic, loss, weights, half) for half in halves]
    except Exception:  # a network without derivatives still has values
        return False
    return not close([sum(pieces) for pieces in zip(*parts, strict=True)], whole, max(arithmetic.tolerance, 1e-6))


def combined_gradient(arithmetic: Arithmetic, loss: ExampleLoss, weights: Tensor, examples: slice) -> list[Tensor]:
    """The gradient of the examples' weighted losses, by parameter, at the weights that are written."""
    network = arithmetic.network
    with computing(graph=True):
        losses = loss(network.outputs(take(arithmetic.inputs, examples)), take(arithmetic.labels, examples)).double()
        if not losses.requires_grad:
            return [torch.zeros_like(leaf) for leaf in network.leaves]
        (losses * weights[examples].to(losses)).sum().backward()
    pieces = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.to_dense() for leaf in network.leaves]
    for leaf in network.leaves:
        leaf.grad = None
    return pieces
