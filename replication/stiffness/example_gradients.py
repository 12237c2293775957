"""Gradients of single examples by plain autograd: the loop over examples that every faster way must agree with, and vmap of it.

Both take the gradients on an untouched copy of the user's network, each example in a batch of its own. So whatever ``forward``
does stands: code under ``no_grad``, custom autograd Functions, hooks, checkpointing, tied weights, routing and sorting.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from replication.errors import ReplicationError
from replication.objective import memory_format
from replication.objective.arithmetic import reason_of
from replication.objective.graphs import refuse_cut_graph
from replication.objective.inputs import Tree, call, map_tensors, n_examples, take
from replication.objective.networks import evaluation_copy, unwrapped
from replication.objective.plain import PlainNetwork
from replication.objective.vector import layout_of, write_parameters

Form = Literal["factors", "affine", "local", "unused", "vmap", "loop"]
Stored = tuple[Tensor, ...]  # (A, D) of form "factors", (G,) of the others; examples first
Chosen = Literal["all", "trainable"] | Sequence[str]
_STOCHASTIC = (nn.modules.dropout._DropoutNd, nn.RReLU)


@dataclass(frozen=True)
class Layer:
    """A module with parameters of its own.

    Attributes:
        name: in ``model.named_modules()``; "" is the model itself.
        parameters: names of those of its parameters that take part, within the module.
        form: how its gradients are made and multiplied.
        numbers: how many numbers an example takes in that form.
    """

    name: str
    parameters: tuple[str, ...]
    form: Form = "loop"
    numbers: int = 0

    @property
    def qualified(self) -> tuple[str, ...]:
        """The names of its parameters in the model."""
        return tuple(f"{self.name}.{name}" if self.name else name for name in self.parameters)


class ExampleGradients:
    """A copy of a model in evaluation mode, in which the gradients of single examples are taken.

    Args:
        model: never changed.
        theta: parameters to use instead of the model's ``[n_parameters]``, in the order of ``named_parameters()``.
        loss: of outputs (given in float64, where the derivative of a saturated softmax keeps its digits) and labels ``[n]``.
        parameters: which take part: all, those that require gradients in ``model``, or those with these names.

    Raises:
        ReplicationError: examples interact or chance takes part (training-mode batch norm or dropout), complex parameters, unknown
            names, or a vector of another length than the parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        theta: Tensor | None,
        loss: Callable[[Any, Any], Tensor],
        dtype: torch.dtype,
        device: torch.device,
        parameters: Chosen = "all",
    ) -> None:
        model = unwrapped(model)
        refuse_coupled_examples(model)
        chosen = _chosen(model, parameters)
        self.model = memory_format.avoid_overflow(evaluation_copy(model, dtype=dtype, device=device))
        if theta is not None:
            write_parameters(self.model, torch.as_tensor(theta))
        self.network = PlainNetwork(self.model, [name for name, _ in self.model.named_parameters() if name in chosen])
        self.parameters = {name: parameter for name, parameter in self.model.named_parameters() if name in chosen}
        self.dtype, self.device = dtype, device
        self.loss = loss

    def layers(self, names: Iterable[str] | None) -> list[Layer]:
        """The layers by name, in the order of the model; all by default.

        Raises:
            ReplicationError: there is no such layer.
        """
        owned: dict[str, tuple[str, ...]] = {}
        for slot in layout_of(self.model):
            if slot.name in self.parameters:
                owned[slot.layer] = (*owned.get(slot.layer, ()), slot.name.rpartition(".")[2])
        chosen = list(owned) if names is None else list(names)
        modules = dict(self.model.named_modules(remove_duplicate=False))
        first_names = {id(module): name for name, module in self.model.named_modules()}
        if not chosen:
            raise ReplicationError(f"No layer was asked for; give at least one, or None for all of: {', '.join(owned)}.")
        for name in chosen:
            if name in modules and name not in owned and first_names[id(modules[name])] in owned:
                raise ReplicationError(f"Layer '{name}' is another name of layer '{first_names[id(modules[name])]}'; give that one.")
            if name not in owned:
                raise ReplicationError(f"The model has no layer '{name}' with parameters of its own; allowed: {', '.join(owned)}.")
        return [Layer(name, parameters) for name, parameters in owned.items() if name in chosen]

    def size(self, layer: Layer) -> int:
        """How many parameters of the layer take part."""
        return sum(self.parameters[name].numel() for name in layer.qualified)

    def losses(self, inputs: Tree, labels: Tree, model: nn.Module | None = None) -> Tensor:
        """One loss per example, float64 ``[n]``, of the copy or of another copy of the same network."""
        outputs = call(self.model if model is None else model, self.network.own_inputs(inputs))
        outputs = map_tensors(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, outputs)
        try:
            losses = self.loss(outputs, labels)
        except (IndexError, TypeError, AttributeError, ValueError) as error:  # a user's loss may fail on some examples
            raise ReplicationError(f"The loss cannot be computed from the network's outputs and the labels: {reason_of(error)}.") from error
        refuse_cut_graph(outputs, losses)
        return losses.double()

    def one_by_one(self, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> tuple[dict[str, Stored], Tensor]:
        """Gradients of each example in a batch of its own: right for any network, and slow; also the losses ``[n]``."""
        n, sizes = n_examples(labels, "labels"), [self.size(layer) for layer in layers]
        rows = torch.empty(n, sum(sizes), dtype=self.dtype, device=self.device)
        wanted = [self.parameters[name] for layer in layers for name in layer.qualified]
        losses = torch.zeros(n, dtype=torch.float64, device=self.device)
        for number in range(n):
            example = slice(number, number + 1)
            losses[number] = self._write_gradient(rows[number], wanted, *take((inputs, labels), example))
        return {layer.name: (piece,) for layer, piece in zip(layers, rows.split(sizes, 1), strict=True)}, losses

    def weighted_sum(self, layers: Sequence[Layer], inputs: Tree, labels: Tree, weights: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The gradient of the weighted sum of the losses of one batch, by layer ``[n_parameters]``, and the losses ``[n]``."""
        sizes = [self.size(layer) for layer in layers]
        row = torch.empty(sum(sizes), dtype=self.dtype, device=self.device)
        losses = self._write_gradient(row, [self.parameters[name] for layer in layers for name in layer.qualified], inputs, labels, weights)
        return {layer.name: piece for layer, piece in zip(layers, row.split(sizes), strict=True)}, losses

    def _write_gradient(self, row: Tensor, wanted: Sequence[Tensor], inputs: Tree, labels: Tree, weights: Tensor | None = None) -> Tensor:
        """Backward as in training and not ``autograd.grad``, which reentrant checkpointing refuses; returns the losses."""
        self.model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            losses = self.losses(inputs, labels)
            if losses.requires_grad:
                losses.backward(torch.ones_like(losses) if weights is None else weights.to(losses))
        start = 0
        for parameter in wanted:
            stop = start + parameter.numel()
            row[start:stop] = 0 if parameter.grad is None else parameter.grad.to_dense().flatten()
            start = stop
        self.model.zero_grad(set_to_none=True)
        return losses.detach()

    def by_vmap(self, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Stored]:
        """The same gradients under ``torch.func.vmap``, for the networks that it can follow."""
        held = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        wanted = {name: held[name] for layer in layers for name in layer.qualified}
        module = _Losses(self)

        def loss(parameters: dict[str, Tensor], inputs: Tree, labels: Tree) -> Tensor:
            batch = map_tensors(lambda tensor: tensor[None], (inputs, labels))
            return functional_call(module, {f"model.{name}": value for name, value in (held | parameters).items()}, batch)[0]

        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():  # fused attention has no rule for vmap
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            gradients = vmap(grad(loss), in_dims=(None, 0, 0))(wanted, inputs, labels)
        return {layer.name: (torch.cat([gradients[name].flatten(1) for name in layer.qualified], 1),) for layer in layers}


class _Losses(nn.Module):
    """The losses as a module, whose parameters ``functional_call`` can exchange.

    It has a copy of the network: where a module has two names, ``functional_call`` leaves a wrong tensor behind.
    """

    def __init__(self, source: ExampleGradients) -> None:
        super().__init__()
        self.model = copy.deepcopy(source.model)
        self._source = [source]

    def forward(self, inputs: Tree, labels: Tree) -> Tensor:
        return self._source[0].losses(inputs, labels, self.model)


def refuse_coupled_examples(model: nn.Module) -> None:
    """Raise an error where the gradient of one example is not defined or not repeatable: batch statistics, dropout."""
    for name, module in model.named_modules():
        batch_statistics = isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
        if batch_statistics or (module.training and isinstance(module, _STOCHASTIC)):
            raise ReplicationError(
                f"Layer '{name}' ({type(module).__name__}) makes examples depend on each other or on chance in its present mode; "
                "call model.eval() first, and give batch norm running statistics."
            )


def _chosen(model: nn.Module, parameters: Chosen) -> set[str]:
    owned: dict[str, Any] = dict(model.named_parameters())
    if isinstance(parameters, str) and parameters not in ("all", "trainable"):
        parameters = [parameters]
    names = set(owned) if parameters == "all" else {n for n, p in owned.items() if p.requires_grad} if parameters == "trainable" else None
    chosen = set(parameters) if names is None else names
    unknown = sorted(chosen - set(owned))
    if unknown or not chosen:
        problem = f"no parameter '{unknown[0]}'" if unknown else "no such parameters"
        raise ReplicationError(f"The model has {problem}; parameters is 'all', 'trainable' or names out of: {', '.join(owned)}.")
    return chosen
