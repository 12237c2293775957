"""A form of the network for evaluation: batch norm folded into the convolution or linear layer before it, ReLU in place.

With running statistics, batch norm is an affine map of each channel, y = gamma (x - mean) / sqrt(variance + epsilon) + beta
(Ioffe & Szegedy 2015). It can be multiplied into the weights before it: once per parameter vector instead of once per pixel.
torch.fx finds the pairs. A network that cannot be traced stays as it is, and so does a pair whose parts are used elsewhere.
"""

import contextlib
import copy
import functools
import io
import operator
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from replication.objective.inputs import Tree, n_examples
from replication.objective.networks import obstacle_to_rewriting

_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Pair:
    """The names of a linear layer and of the batch norm after it, which has no other input."""

    linear: str
    norm: str
    epsilon: float

    def fold(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The layer's weight and bias with batch norm folded into them.

        Args:
            tensors: parameters and running statistics by name, float64; biases and batch norm's scale may be missing.
        """
        weight = tensors[f"{self.linear}.weight"]
        scale = (tensors[f"{self.norm}.running_var"] + self.epsilon).rsqrt()
        shift = -tensors[f"{self.norm}.running_mean"]
        if f"{self.linear}.bias" in tensors:
            shift = shift + tensors[f"{self.linear}.bias"]
        if f"{self.norm}.weight" in tensors:
            scale = scale * tensors[f"{self.norm}.weight"]
        bias = shift * scale
        if f"{self.norm}.bias" in tensors:
            bias = bias + tensors[f"{self.norm}.bias"]
        return weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias

    def names(self) -> set[str]:
        """The names of all parameters and statistics of the pair."""
        fields = ("weight", "bias")
        statistics = {f"{self.norm}.running_mean", f"{self.norm}.running_var"}
        return statistics | {f"{module}.{field}" for module in (self.linear, self.norm) for field in fields}


@dataclass(frozen=True)
class Folded:
    """A network in which the batch norms of ``pairs`` are removed and the layers before them have a bias.

    Attributes:
        module: the network.
        pairs: the layers and batch norms that were folded.
        largest: number of elements of the largest activation of one example; None where the network could not be traced.
    """

    module: nn.Module
    pairs: tuple[Pair, ...]
    largest: int | None

    def fold(self, parameters: dict[str, Tensor], statistics: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parameters of ``module``, computed from those of the original network; differentiable, folded in float64.

        Args:
            parameters: of the original network by name, in any floating-point type.
            statistics: batch norm's running means and variances by name, float64.
        """
        kept = dict(parameters)
        for pair in self.pairs:
            members = {name: kept.pop(name) for name in sorted(pair.names()) if name in kept}
            kind = members[f"{pair.linear}.weight"].dtype
            weight, bias = pair.fold({name: tensor.double() for name, tensor in members.items()} | statistics)
            kept |= {f"{pair.linear}.weight": weight.to(kind), f"{pair.linear}.bias": bias.to(kind)}
        return kept


def folded(model: nn.Module, examples: Tree) -> Folded:
    """The evaluation form of ``model``. Its weights have no meaning until those of ``Folded.fold`` are written into it.

    Args:
        model: in evaluation mode; copied, never changed.
        examples: a few inputs on which the traced network must give exactly the model's outputs.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
        >>> folded(model, torch.zeros(2, 1, 3, 3)).pairs
        (Pair(linear='0', norm='1', epsilon=1e-05),)
    """
    traced = _traced(copy.deepcopy(model), examples)
    if traced is None:
        return Folded(copy.deepcopy(model), (), None)
    sizes = [node.meta["tensor_meta"].shape.numel() for node in traced.graph.nodes if hasattr(node.meta.get("tensor_meta"), "shape")]
    pairs = _pairs(traced)
    for node, pair in pairs:
        _remove_norm(traced, node, pair)
    _make_relus_in_place(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return Folded(traced, tuple(pair for _, pair in pairs), max(sizes) // n_examples(examples))


class _Tracer(fx.Tracer):
    """Traces containers only: a module without children need not be traceable."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return not any(module.children()) or super().is_leaf_module(module, name)


def _traced(model: nn.Module, examples: Tree) -> fx.GraphModule | None:
    """The model as a graph; None where it cannot be traced, or the graph computes something else."""
    if not isinstance(examples, Tensor | tuple) or obstacle_to_rewriting(model) is not None:
        return None
    arguments = examples if isinstance(examples, tuple) else (examples,)
    try:
        graph = _Tracer().trace(model)
        traced = fx.GraphModule(model, graph)
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # torch.fx prints the traceback of what it cannot run
            outputs, expected = ShapeProp(traced).propagate(*arguments), model(*arguments)
    except Exception:  # a forward method may do anything to a proxy, and a slower evaluation is not an error
        return None
    same = isinstance(outputs, Tensor) and outputs.dtype == expected.dtype
    same = same and torch.allclose(outputs, expected, rtol=0, atol=0, equal_nan=True)
    return traced if same else None


def _pairs(traced: fx.GraphModule) -> list[tuple[fx.Node, Pair]]:
    """The batch norms that can be folded: their input is used nowhere else, and no module or weight is used twice."""
    modules = dict(traced.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[str(node.target)]) for node in traced.graph.nodes if node.op == "call_module")
    owners = Counter(id(tensor) for _, tensor in traced.named_parameters(remove_duplicate=False))
    owners += Counter(id(tensor) for _, tensor in traced.named_buffers(remove_duplicate=False))
    owners += Counter(id(_attribute(traced, node)) for node in traced.graph.nodes if node.op == "get_attr")  # read beside the layer
    pairs = []
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        linear, norm = modules[str(before.target)], modules[str(node.target)]
        if type(linear) not in _LINEAR or type(norm) not in _NORMS or norm.running_mean is None:
            continue
        tensors = [*linear.parameters(), *norm.parameters(), *norm.buffers()]
        once = calls[id(linear)] == calls[id(norm)] == 1 and all(owners[id(tensor)] == 1 for tensor in tensors)
        channels_second = type(linear) is not nn.Linear or len(before.meta["tensor_meta"].shape) == 2
        if once and channels_second and not norm.training:
            pairs.append((node, Pair(str(before.target), str(node.target), norm.eps)))
    return pairs


def _attribute(traced: fx.GraphModule, node: fx.Node) -> Any:
    return functools.reduce(getattr, str(node.target).split("."), traced)


def _remove_norm(traced: fx.GraphModule, node: fx.Node, pair: Pair) -> None:
    linear: Any = traced.get_submodule(pair.linear)
    if linear.bias is None:
        linear.bias = nn.Parameter(torch.zeros_like(linear.weight[:, *[0] * (linear.weight.dim() - 1)]), requires_grad=False)
    before = node.args[0]
    assert isinstance(before, fx.Node)
    node.replace_all_uses_with(before)
    traced.graph.erase_node(node)


def _make_relus_in_place(traced: fx.GraphModule) -> None:
    """Saves a pass through memory. Only where the input is a new tensor that nothing else reads."""
    modules = dict(traced.named_modules())

    def module_of(node: fx.Node) -> nn.Module | None:
        return modules.get(str(node.target)) if node.op == "call_module" else None

    for node in list(traced.graph.nodes):
        is_relu = type(module_of(node)) is nn.ReLU or (node.op == "call_method" and node.target == "relu")
        is_relu = is_relu or (node.op == "call_function" and node.target in (F.relu, torch.relu))
        before = node.args[0] if is_relu else None
        if not isinstance(before, fx.Node) or len(before.users) != 1:
            continue
        fresh = type(module_of(before)) in (*_LINEAR, *_NORMS) or (before.op == "call_function" and before.target is operator.add)
        if fresh:
            with traced.graph.inserting_after(node):
                replacement = traced.graph.call_method("relu_", (before,))
            node.replace_all_uses_with(replacement)
            traced.graph.erase_node(node)
