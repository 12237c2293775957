"""Per-example gradients of one layer at a time, in the form in which their dot products are cheapest.

One batched forward and backward pass gives every layer's inputs and the derivatives of each example's loss by the layer's
outputs. A layer that multiplies by a weight at T positions (linear: T = 1, convolution: one per output pixel) has the
per-example gradient G = D^T [A 1], with A ``[T, inputs]`` and D ``[T, outputs]``; a dot product of two of them is
sum (A A'^T + 1) o (D D'^T) over positions. Other modules of ``torch.nn`` go through their own vector-Jacobian product.

A form is for modules of exactly torch's types, without hooks, parametrisations or shared parameters, and holds where row i of a
layer's inputs and outputs belongs to example i. Every pass checks what it can see of that; ``trial`` and ``proof`` check the rest.
"""

import copy
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from replication.objective import memory_format
from replication.objective.graphs import shape_of
from replication.objective.inputs import Tree, n_examples
from replication.objective.networks import obstacle_to_rewriting
from replication.stiffness.example_gradients import ExampleGradients, Form, Layer, Stored

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WINDOW_NUMBERS = 2**21  # of a convolution's windows at a time: they stay in the cache (2x on 16 channels)


class UnfitFormError(Exception):
    """A pass shows that the forms of these layers do not hold."""

    def __init__(self, layers: Collection[str], reason: str) -> None:
        super().__init__(reason)
        self.layers, self.reason = frozenset(layers), reason


@dataclass
class Call:
    """One call of a layer in a forward pass.

    Attributes:
        inputs: as given to the module.
        output: of the module; later the derivative of the loss by it.
        versions: how often inputs and output had been changed in place when the call returned.
    """

    inputs: tuple[Any, ...]
    output: Tensor
    versions: list[int]

    @property
    def tensors(self) -> list[Tensor]:
        """Inputs and output."""
        return [item for item in (*self.inputs, self.output) if isinstance(item, Tensor)]


Calls = list[Call]


class LayerForms:
    """The network with the inputs of its layers and the derivatives by their outputs captured.

    Args:
        source: the plain copy.

    Attributes:
        graph: the shape of the last pass' graph (``graphs.shape_of``).
    """

    def __init__(self, source: ExampleGradients) -> None:
        self._source = source
        self._model = _prepared(source.model)
        self._parameters = dict(self._model.named_parameters())
        self._uses = Counter(id(parameter) for _, parameter in self._model.named_parameters(remove_duplicate=False))
        self.modules: dict[str, nn.Module] = dict(self._model.named_modules())
        self.graph: frozenset[Any] = frozenset()

    def capture(self, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Calls]:
        """The calls of each layer, with the derivatives of each example's loss by its outputs, in one batched pass.

        Raises:
            UnfitFormError: a tensor with another number of rows than examples or changed in place later, or a layer of the form
                "unused" that takes part.
        """
        calls: dict[str, Calls] = {layer.name: [] for layer in layers if layer.form != "unused"}
        handles = [self.modules[name].register_forward_hook(_recorder(entries)) for name, entries in calls.items()]
        try:
            with torch.enable_grad():
                total = self._source.losses(inputs, labels, self._model).sum()
        finally:
            for handle in handles:
                handle.remove()
        self.graph = shape_of([total])
        n = n_examples(labels, "labels")
        _refuse({name for name, entries in calls.items() if not all(_by_example(entry, n) for entry in entries)}, "rows are not examples")
        _refuse({name for name, entries in calls.items() if any(_changed(entry) for entry in entries)}, "tensors are changed in place")
        entries = [entry for each in calls.values() for entry in each]
        unused = {name: layer.name for layer in layers if layer.form == "unused" for name in layer.qualified}
        wanted = [entry.output for entry in entries] + [self._parameters[name] for name in unused]
        derivatives = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad and wanted else [None] * len(wanted)
        late = zip(unused.values(), derivatives[len(entries) :], strict=True)
        _refuse({layer for layer, derivative in late if derivative is not None}, "some examples use them")
        for entry, derivative in zip(entries, derivatives, strict=False):
            entry.output = torch.zeros_like(entry.output) if derivative is None else derivative
        return calls

    def gradients(self, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Stored]:
        """What is kept of a chunk of examples, by layer: ``(A, D)`` or ``(G,)`` with G ``[n, n_parameters of the layer]``.

        Raises:
            UnfitFormError: as in ``capture``.
        """
        calls = self.capture(layers, inputs, labels)
        n = n_examples(labels, "labels")
        stored = {layer.name: self.stored(layer, calls.pop(layer.name, []), n) for layer in layers}
        sizes = {name: sum(math.prod(piece.shape[1:]) for piece in pieces) for name, pieces in stored.items()}
        _refuse({layer.name for layer in layers if sizes[layer.name] != layer.numbers}, "the number of calls depends on the examples")
        return stored

    def stored(self, layer: Layer, calls: Calls, n: int) -> Stored:
        """A layer's gradients in its form, from its captured calls (several where a layer is used several times)."""
        module = self.modules[layer.name]
        with torch.no_grad():
            if layer.form == "unused" or not calls:
                return (torch.zeros(n, 0, dtype=self._source.dtype, device=self._source.device),)
            if layer.form == "local":
                return (torch.stack([_local(module, layer.parameters, call.inputs, call.output) for call in calls]).sum(0),)
            if layer.form == "affine":
                return (sum(_affine(module, call.inputs[0], call.output) for call in calls),)  # type: ignore[return-value]
            positions = [_positions(module, call.inputs[0], call.output) for call in calls]
            return torch.cat([a for a, _ in positions], 1), torch.cat([d for _, d in positions], 1)

    def possible_form(self, layer: Layer, calls: Calls) -> Form:
        """The best form that may fit a layer; "loop" where none does."""
        module: Any = self.modules[layer.name]
        shared = any(self._uses[id(self._parameters[name])] > 1 for name in layer.qualified)
        if shared or not _is_of_torch(module) or obstacle_to_rewriting(module) is not None:
            return "loop"
        if not calls:
            return "unused"
        if not self._source.size(layer):
            return "loop"
        if _is_affine(module, layer):
            inputs, outputs = module.weight[0].numel() + 1, len(module.weight)
            positions = _n_positions(module, calls)
            return "factors" if positions**2 * (inputs + outputs) < inputs * outputs else "affine"
        return "local"

    def has_formula(self, layer: Layer) -> bool:
        """Whether the gradients of a layer of the form "local" come from a formula and not from vmap."""
        return type(self.modules[layer.name]) in (*_BATCH_NORMS, nn.GroupNorm, nn.LayerNorm)

    def numbers(self, layer: Layer, calls: Calls) -> int:
        """How many numbers are kept of an example."""
        module: Any = self.modules[layer.name]
        if layer.form != "factors":
            return 0 if layer.form == "unused" else self._source.size(layer)
        width = module.weight[0].numel() + (module.bias is not None)
        return _n_positions(module, calls) * (width + len(module.weight))


def dot_products(left: Stored, right: Stored) -> Tensor:
    """Dot products ``[n, m]`` of the gradients of two sets of examples in the same form."""
    if len(left) == 1:
        return left[0] @ right[0].T
    (a, d), (b, e) = left, right
    (n, positions, _), m = a.shape, len(b)
    products = (a.flatten(0, 1) @ b.flatten(0, 1).T).mul_(d.flatten(0, 1) @ e.flatten(0, 1).T)
    return products if positions == 1 else products.view(n, positions, m, -1).sum((1, 3))


def squared_lengths(stored: Stored) -> Tensor:
    """Squared norms ``[n]`` of the gradients."""
    if len(stored) == 1:
        return stored[0].square().sum(1)
    a, d = stored
    return ((a @ a.mT) * (d @ d.mT)).sum((1, 2))


def in_window_order(module: Any, layer: Layer, gradients: Tensor) -> Tensor:
    """Plain gradients ``[n, n_parameters]`` with a kernel's entries in the order in which the form "affine" has them."""
    if layer.form != "affine" or not isinstance(module, nn.Conv2d):
        return gradients
    width = module.weight.numel()
    kernels = gradients[:, :width].view(-1, *module.weight.shape).permute(0, 1, 3, 4, 2)
    return torch.cat([kernels.reshape(len(gradients), width), gradients[:, width:]], 1)


def _prepared(model: nn.Module) -> nn.Module:
    """The model, or a copy with the same tensors where activations work in place or kernels are to lie in channels_last.

    A captured output must keep its value and its place in the graph. Kernels in channels_last also let windows be copied in runs as
    long as a kernel row.
    """
    in_place = [name for name, module in model.named_modules() if getattr(module, "inplace", False) is True and _is_of_torch(module)]
    if not in_place and all(parameter.dim() != 4 for parameter in model.parameters()):
        return model
    tensors = [*model.parameters(), *model.buffers()]
    duplicate = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for name in in_place:
        duplicate.get_submodule(name).inplace = False  # type: ignore[assignment]
    return memory_format.prepare(duplicate)


def _recorder(calls: Calls) -> Callable[..., None]:
    def record(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or not output.requires_grad:
            return
        call = Call(inputs, output, [])
        call.versions = [tensor._version for tensor in call.tensors]
        calls.append(call)

    return record


def _refuse(layers: Collection[str], reason: str) -> None:
    if layers:
        raise UnfitFormError(layers, reason)


def _by_example(call: Call, n: int) -> bool:
    return all(tensor.dim() > 0 and len(tensor) == n for tensor in call.tensors)


def _changed(call: Call) -> bool:
    return [tensor._version for tensor in call.tensors] != call.versions


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.")


def _is_affine(module: Any, layer: Layer) -> bool:
    own = ("weight",) if getattr(module, "bias", None) is None else ("weight", "bias")
    if layer.parameters != own:
        return False
    if type(module) is not nn.Conv2d:
        return type(module) is nn.Linear
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _n_positions(module: Any, calls: Calls) -> int:
    return sum(call.output[0].numel() // len(module.weight) for call in calls)


def _positions(module: Any, inputs: Tensor, derivatives: Tensor) -> tuple[Tensor, Tensor]:
    """A with a column of ones for the bias, ``[n, positions, inputs (+ 1)]``, and D ``[n, positions, outputs]``."""
    if isinstance(module, nn.Conv2d):
        inputs, derivatives = _windows(module, inputs), derivatives.flatten(2).mT
    inputs, derivatives = (tensor.reshape(len(tensor), -1, tensor.shape[-1]) for tensor in (inputs, derivatives))
    return (inputs if module.bias is None else F.pad(inputs, (0, 1), value=1.0)), derivatives


def _affine(module: Any, inputs: Tensor, derivatives: Tensor) -> Tensor:
    """Gradients ``[n, n_parameters]``; a kernel's entries lie in the order of the windows, which no dot product sees."""
    width = module.weight.numel()
    gradients = inputs.new_empty(len(inputs), sum(p.numel() for p in module.parameters(recurse=False)))
    at_once = max(1, _WINDOW_NUMBERS // max(1, derivatives[0].numel() // len(module.weight) * module.weight[0].numel()))
    for rows, a, d in zip(gradients.split(at_once), inputs.split(at_once), derivatives.split(at_once), strict=True):
        if isinstance(module, nn.Conv2d):
            a, d = _windows(module, a), d.permute(0, 2, 3, 1)
        a, d = (tensor.reshape(len(tensor), -1, tensor.shape[-1]) for tensor in (a, d))
        torch.bmm(d.mT, a, out=rows[:, :width].view(len(d), -1, a.shape[-1]))
        if module.bias is not None:
            rows[:, width:] = d.sum(1)
    return gradients


def _windows(convolution: Any, inputs: Tensor) -> Tensor:
    """What the kernel sees at every output pixel, ``[n, pixels, kernel height * kernel width * channels]``.

    Copied from a channels-last image in runs of a kernel row, up to four times as fast as ``F.unfold`` on a CPU.
    """
    (kh, kw), (sh, sw), (dh, dw) = convolution.kernel_size, convolution.stride, convolution.dilation
    ph, pw = convolution.padding
    padded = F.pad(inputs.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph)).contiguous()
    n, height, width, channels = padded.shape
    out_h, out_w = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
    across_n, across_h, across_w, across_c = padded.stride()
    strides = (across_n, across_h * sh, across_w * sw, across_h * dh, across_w * dw, across_c)
    return padded.as_strided((n, out_h, out_w, kh, kw, channels), strides).reshape(n, out_h * out_w, -1)


def _local(module: nn.Module, names: Sequence[str], inputs: tuple[Any, ...], derivatives: Tensor) -> Tensor:
    """Gradients ``[n, n_parameters]`` of any module: of normalisations by their formula, of others by vmap of the module's own."""
    normalised = _normalised(module, inputs[0]) if tuple(names) == ("weight", "bias") and len(inputs) == 1 else None
    if normalised is None:
        return _by_vmap(module, names, inputs, derivatives)
    if not isinstance(module, nn.LayerNorm):  # channels on the second axis
        by_channel = [tensor.flatten(2).sum(2) if tensor.dim() > 2 else tensor for tensor in (normalised * derivatives, derivatives)]
        return torch.cat(by_channel, 1)
    width = module.weight.numel()
    by_feature = [tensor.reshape(len(derivatives), -1, width).sum(1) for tensor in (normalised * derivatives, derivatives)]
    return torch.cat(by_feature, 1)


def _normalised(module: Any, inputs: Tensor) -> Tensor | None:
    """The inputs of a normalisation as they are before its scale and shift; None for other modules."""
    if type(module) in _BATCH_NORMS and module.running_mean is not None and inputs.dim() > 1:
        return F.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
    if type(module) is nn.GroupNorm:
        return F.group_norm(inputs, module.num_groups, eps=module.eps)
    return F.layer_norm(inputs, module.normalized_shape, eps=module.eps) if type(module) is nn.LayerNorm else None


def _by_vmap(module: nn.Module, names: Sequence[str], inputs: tuple[Any, ...], derivatives: Tensor) -> Tensor:
    """Gradients ``[n, n_parameters]`` by the module's own vector-Jacobian product, example by example."""

    def projected(parameters: dict[str, Tensor], example: tuple[Any, ...], derivative: Tensor) -> Tensor:
        batch_of_one = tuple(item[None] for item in example)
        return (functional_call(module, parameters, batch_of_one)[0] * derivative).sum()

    parameters = {name: module.get_parameter(name).detach() for name in names}
    with torch.enable_grad():
        gradients = vmap(grad(projected), in_dims=(None, 0, 0))(parameters, tuple(item.detach() for item in inputs), derivatives)
    return torch.cat([gradients[name].flatten(1) for name in names], 1)


def captured_numbers(calls: Calls) -> int:
    """How many numbers an example takes in the captured inputs and outputs."""
    return sum(math.prod(tensor.shape[1:]) for call in calls for tensor in call.tensors)
