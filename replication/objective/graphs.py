"""What a graph of autograd and a forward pass tell about the derivatives: custom Functions, hooks, tensors that are detached."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.overrides import TorchFunctionMode

from replication.errors import ReplicationError
from replication.objective.inputs import tensors_of

_DETACHING = {"detach", "detach_", "item", "tolist", "numpy", "__float__", "__int__", "__bool__"}


def nodes_of(results: Iterable[Tensor]) -> Iterator[Any]:
    """Every node of the graph that leads to the results, once.

    Example:
        >>> [node.name() for node in nodes_of([torch.ones(1, requires_grad=True).exp()])]
        ['ExpBackward0', 'torch::autograd::AccumulateGrad']
    """
    pending = [tensor.grad_fn for tensor in results if tensor.grad_fn is not None]
    seen = set(pending)
    while pending:
        node = pending.pop()
        yield node
        following = {parent for parent, _ in node.next_functions if parent is not None} - seen
        seen |= following
        pending.extend(following)


def custom_functions(results: Iterable[Tensor]) -> list[str]:
    """The names of the autograd Functions in the graph that are not torch's own, without repetition."""
    names = [node.name().removesuffix("Backward") for node in nodes_of(results) if _is_custom(node)]
    return list(dict.fromkeys(names))


def refuse_cut_graph(outputs: Any, losses: Tensor) -> None:
    """Raise an error where outputs have a graph and losses have none.

    Raises:
        ReplicationError: the loss function detached them.
    """
    if torch.is_grad_enabled() and not losses.requires_grad and any(tensor.requires_grad for tensor in tensors_of(outputs)):
        raise ReplicationError(
            "The loss has no gradient though the outputs have one: the loss function detaches them (item(), numpy, comparisons or a new "
            "tensor of numbers); compute it from the outputs by torch's operations."
        )


def shape_of(results: Iterable[Tensor]) -> frozenset[tuple[Any, int]]:
    """What the graph that leads to the results consists of: each kind of node with what it leads to, and how often it occurs.

    Two passes that differ by a branch of the forward method have other shapes, whatever sizes their tensors have.

    Example:
        >>> x = torch.ones(1, requires_grad=True)
        >>> shape_of([x.exp()]) == shape_of([x.exp()]), shape_of([x.exp()]) == shape_of([x.exp() + x])
        (True, False)
    """
    kinds = Counter((_kind(node), tuple(_kind(parent) for parent, _ in node.next_functions)) for node in nodes_of(results))
    return frozenset(kinds.items())


def _kind(node: Any) -> Any:
    """The name of a node; of a leaf, which one it is."""
    variable = getattr(node, "variable", None)
    return (node.name() if node is not None else "") if variable is None else id(variable)


def _is_custom(node: Any) -> bool:
    return isinstance(node, BackwardCFunction) or "CppNode" in node.name()


class ForwardWatch(TorchFunctionMode):
    """Notes what a forward pass does to its graph while the mode is on.

    Attributes:
        detaches: it takes tensors out of the graph, or runs parts without one.
        hooks: it registers hooks on tensors, which change gradients.
        weight_norm: it uses torch's weight norm.
        single: parts of it compute in less than float64, whatever the type of the weights.

    Example:
        >>> with ForwardWatch() as watch:
        ...     _ = torch.ones(1).detach()
        >>> watch.detaches, watch.hooks
        (True, False)
    """

    def __init__(self) -> None:
        super().__init__()
        self.detaches = self.hooks = self.weight_norm = self.single = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        name = getattr(function, "__name__", "")
        read = name == "__get__" and getattr(function, "__self__", None) is Tensor.data
        self.detaches |= name in _DETACHING or read or not torch.is_grad_enabled()
        self.hooks |= name in ("register_hook", "register_post_accumulate_grad_hook")
        self.weight_norm |= function is torch._weight_norm
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.single |= result.requires_grad and result.dtype != torch.float64
        return result


class ExactWeightNorm(TorchFunctionMode):
    """Computes weight norm by operations that autograd differentiates twice; torch's own form has a wrong second derivative (2.13).

    Example:
        >>> v, g = torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]])
        >>> with ExactWeightNorm():
        ...     torch._weight_norm(v, g, 0)
        tensor([[6., 8.]])
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: D105
        if function is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    return v * (g / torch.norm_except_dim(v, 2, dim))
