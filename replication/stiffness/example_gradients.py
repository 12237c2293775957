"""Per-example gradients of one layer at a time, in the form in which their dot products are cheapest.

One batched forward and backward pass gives every layer's inputs and the derivatives of each example's loss by the layer's
outputs. A layer that multiplies by a weight at T positions (linear: T = 1, convolution: one per output pixel) has the
per-example gradient G = D^T [A 1], with A ``[T, inputs]`` and D ``[T, outputs]``; a dot product of two of them is
sum (A A'^T + 1) o (D D'^T) over positions. Every other layer goes through its own vector-Jacobian product. Each form is compared
with plain autograd on two examples before it is trusted (``plan``).
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from replication.errors import ReplicationError
from replication.objective import memory_format
from replication.objective.losses import PerExampleLoss
from replication.objective.vector import flatten, layout_of, write_parameters

Form = Literal["factors", "affine", "local", "loop"]
Calls = list[tuple[tuple[Any, ...], Tensor]]  # a layer's inputs and its outputs, one entry per call; later the outputs' derivatives
Stored = tuple[Tensor, ...]  # (A, D) of form "factors", (G,) of the others; examples first
_WINDOW_NUMBERS = 2**21  # of a convolution's windows at a time: they stay in the cache (2x on 16 channels)
_STOCHASTIC = (nn.modules.dropout._DropoutNd, nn.RReLU)


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own.

    Attributes:
        name: in ``model.named_modules()``; "" is the model itself.
        parameters: names of its parameters within the module.
        form: how its gradients are made and multiplied.
        numbers: how many numbers an example takes in that form.
    """

    name: str
    parameters: tuple[str, ...]
    form: Form = "loop"
    numbers: int = 0


class ExampleGradients:
    """A copy of a model in which the gradients of single examples are taken.

    Args:
        model: in evaluation mode; copied, never changed.
        theta: parameters to use instead of the model's ``[n_parameters]``, in the order of ``named_parameters()``.
        loss: of outputs (given in float64, where the derivative of a saturated softmax keeps its digits) and labels ``[n]``.

    Raises:
        ReplicationError: examples interact or chance takes part (training-mode batch norm or dropout), or the vector has
            another length than the parameters.
    """

    def __init__(self, model: nn.Module, *, theta: Tensor | None, loss: PerExampleLoss, dtype: torch.dtype, device: torch.device) -> None:
        refuse_coupled_examples(model)
        # kernels in channels_last also let windows be copied in runs as long as a kernel row
        self.model = memory_format.prepare(copy.deepcopy(model).to(device, dtype)).requires_grad_(True)
        if theta is not None:
            write_parameters(self.model, theta)
        for module in self.model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # type: ignore[assignment]  # a captured output must keep its value and its place in the graph
        self.modules: dict[str, nn.Module] = dict(self.model.named_modules())
        self._loss, self._dtype, self._device = loss, dtype, device

    def layers(self, names: Iterable[str] | None) -> list[Layer]:
        """The layers by name, in the order of the model; all by default.

        Raises:
            ReplicationError: there is no such layer.
        """
        owned: dict[str, tuple[str, ...]] = {}
        for slot in layout_of(self.model):
            owned[slot.layer] = (*owned.get(slot.layer, ()), slot.name.rpartition(".")[2])
        chosen = list(owned) if names is None else list(names)
        for name in chosen:
            if name not in owned:
                raise ReplicationError(f"The model has no layer '{name}' with parameters of its own; allowed: {', '.join(owned)}.")
        return [Layer(name, parameters) for name, parameters in owned.items() if name in chosen]

    def prepare(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images in the arithmetic's type and contiguous (backward of convolutions crashed on permuted views), labels beside them."""
        images = images.to(self._device)
        return (images.to(self._dtype) if images.is_floating_point() else images).contiguous(), labels.to(self._device)

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """One loss per example, float64 ``[n]``."""
        return self._loss(self.model(images).double(), labels)

    def capture(self, layers: Sequence[Layer], images: Tensor, labels: Tensor) -> dict[str, Calls]:
        """Inputs of every call of each layer and the derivatives of each example's loss by its outputs, in one batched pass."""
        calls: dict[str, Calls] = {layer.name: [] for layer in layers}

        def recorder(name: str) -> Callable[..., None]:
            def record(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
                if isinstance(output, Tensor) and output.requires_grad:
                    calls[name].append((inputs, output))

            return record

        handles = [self.modules[name].register_forward_hook(recorder(name)) for name in calls]
        try:
            total = self.losses(images, labels).sum()
        finally:
            for handle in handles:
                handle.remove()
        outputs = [output for entries in calls.values() for _, output in entries]
        derivatives = iter(torch.autograd.grad(total, outputs, materialize_grads=True) if outputs else ())
        return {name: [(inputs, next(derivatives)) for inputs, _ in entries] for name, entries in calls.items()}

    def gradients(self, layers: Sequence[Layer], images: Tensor, labels: Tensor) -> dict[str, Stored]:
        """What is kept of a chunk of examples, by layer: ``(A, D)`` or ``(G,)`` with G ``[n, n_parameters of the layer]``."""
        captured = [layer for layer in layers if layer.form != "loop"]
        calls = self.capture(captured, images, labels) if captured else {}
        stored = {layer.name: self.form(layer, calls.pop(layer.name)) for layer in captured}
        looped = [layer for layer in layers if layer.form == "loop"]
        return stored | (self.one_by_one(looped, images, labels) if looped else {})

    def form(self, layer: Layer, calls: Calls) -> Stored:
        """A layer's gradients in its form, from its captured calls (several where a layer is used several times)."""
        module = self.modules[layer.name]
        with torch.no_grad():
            if layer.form == "local":
                return (torch.stack([_local(module, layer.parameters, inputs, d) for inputs, d in calls]).sum(0),)
            if layer.form == "affine":
                return (sum(_affine(module, inputs[0], d) for inputs, d in calls),)  # type: ignore[return-value]
            positions = [_positions(module, inputs[0], d) for inputs, d in calls]
            return torch.cat([a for a, _ in positions], 1), torch.cat([d for _, d in positions], 1)

    def one_by_one(self, layers: Sequence[Layer], images: Tensor, labels: Tensor) -> dict[str, Stored]:
        """Gradients by plain autograd, one example at a time: right for any layer, and slow."""
        parameters = [self.modules[layer.name].get_parameter(name) for layer in layers for name in layer.parameters]
        sizes = [sum(self.modules[layer.name].get_parameter(name).numel() for name in layer.parameters) for layer in layers]
        rows = torch.empty(len(images), sum(sizes), dtype=self._dtype, device=self._device)
        for row, image, label in zip(rows, images, labels, strict=True):
            pieces = torch.autograd.grad(self.losses(image[None], label[None]).sum(), parameters, materialize_grads=True)
            row.copy_(flatten(pieces))
        return {layer.name: (piece,) for layer, piece in zip(layers, rows.split(sizes, 1), strict=True)}


def refuse_coupled_examples(model: nn.Module) -> None:
    """Raise where the gradient of one example is not defined or not repeatable: batch statistics, dropout."""
    for name, module in model.named_modules():
        batch_statistics = isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
        if batch_statistics or (module.training and isinstance(module, _STOCHASTIC)):
            raise ReplicationError(
                f"Layer '{name}' ({type(module).__name__}) makes examples depend on each other or on chance in its present mode; "
                "call model.eval() first, and give batch norm running statistics."
            )


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


def possible_forms(module: Any, layer: Layer, calls: Calls) -> list[Form]:
    """The forms that may fit a layer, best first."""
    if not calls:
        return ["loop"]
    plain = layer.parameters == ("weight", "bias") or (layer.parameters == ("weight",) and module.bias is None)
    if plain and (type(module) is nn.Linear or _is_plain_convolution(module)):
        inputs, outputs = module.weight[0].numel() + 1, len(module.weight)
        positions = sum(d[0].numel() // outputs for _, d in calls)
        return ["factors" if positions**2 * (inputs + outputs) < inputs * outputs else "affine", "loop"]
    return ["local", "loop"]


def _is_plain_convolution(module: Any) -> bool:
    if type(module) is not nn.Conv2d:
        return False
    return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)


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
    """Gradients ``[n, n_parameters]`` of any module by its own vector-Jacobian product, example by example under vmap."""

    def projected(parameters: dict[str, Tensor], example: tuple[Any, ...], derivative: Tensor) -> Tensor:
        batch_of_one = tuple(item[None] for item in example)
        return (functional_call(module, parameters, batch_of_one)[0] * derivative).sum()

    parameters = {name: module.get_parameter(name).detach() for name in names}
    with torch.enable_grad():
        gradients = vmap(grad(projected), in_dims=(None, 0, 0))(parameters, tuple(item.detach() for item in inputs), derivatives)
    return torch.cat([gradients[name].flatten(1) for name in names], 1)


def numbers_of(module: Any, layer: Layer, form: Form, calls: Calls) -> int:
    """How many numbers are kept of an example."""
    if form != "factors":
        return sum(math.prod(module.get_parameter(name).shape) for name in layer.parameters)
    inputs, outputs = module.weight[0].numel() + 1, len(module.weight)
    return sum(d[0].numel() // outputs for _, d in calls) * (inputs + outputs)
