"""Faster forms of a network, each used only after it has proved itself on this network and these examples.

- *stacked*: a ReLU network of linear layers at several points at once (``stacked_mlp``);
- *traced*: batch norm folded into the weights, ReLU in place, channels_last (``folding``);
- *channels_last*: the module itself with its kernels in that memory format (``memory_format``).

The proof compares losses and gradients with the plain path (``plain``) in float64, at parameters and buffers that are moved at random,
on examples from the whole set. Without it the plain path runs, slower and right.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from replication.objective import memory_format
from replication.objective.arithmetic import Arithmetic, moved, moved_buffers
from replication.objective.example_sets import ExampleSet
from replication.objective.folding import Folded, folded
from replication.objective.inputs import map_tensors, tensors_of
from replication.objective.losses import ExampleLoss
from replication.objective.networks import converted, copy_of, obstacle_to_rewriting
from replication.objective.plain import Network, PlainNetwork, computing, gradient
from replication.objective.probes import Probe
from replication.objective.stacked_mlp import StackedMlp
from replication.objective.vector import buffer_shapes, flat_buffers, parameter_shapes, unflatten

logger = logging.getLogger(__name__)
_TOLERANCE = 1e-7  # relative, in float64


class TracedNetwork:
    """The evaluation form of a network as a function of the vector: weights are folded anew for every pass, differentiably.

    Args:
        form: the traced and folded network.
        model: the module it was made from, which has all parameters and buffers.
        names: the parameters that the vector holds, in order.
    """

    name = "traced"
    values_need_graph = False

    def __init__(self, form: Folded, model: nn.Module, names: Sequence[str]) -> None:
        self.form = form
        self._own = {name: parameter.detach() for name, parameter in model.named_parameters()}
        self._shapes = {name: self._own[name].shape for name in names}
        self._buffer_shapes, self._own_buffers = buffer_shapes(model), flat_buffers(model)
        self._aliases = _aliases(model)
        self._present = {name for name, _ in _named_tensors(form.module)}
        self._variable, self._buffers = torch.empty(0), self._own_buffers

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The vector itself."""
        return [self._variable]

    def write(self, theta: Tensor, buffers: Tensor | None = None) -> None:
        """Take the vectors; as in ``Network``."""
        dtype = next(iter(self._own.values())).dtype
        self._variable = theta.detach().to(dtype, copy=True).requires_grad_()
        self._buffers = self._own_buffers if buffers is None else buffers.double()

    def outputs(self, inputs: Any) -> Any:
        """What the traced network returns."""
        kind = self._variable.dtype
        tensors = self.tensors(self._variable, self._buffers)
        tensors = {name: memory_format.in_channels_last(tensor.to(kind)) for name, tensor in tensors.items()}
        return functional_call(self.form.module, tensors, _arguments(inputs))

    def tensors(self, vector: Tensor, buffers: Tensor | None) -> dict[str, Tensor]:
        """All tensors of the traced network by name, under each of the names that a tied parameter has; folding is in float64."""
        statistics = unflatten((self._own_buffers if buffers is None else buffers).double(), self._buffer_shapes)
        weights = self.form.fold(self._own | unflatten(vector, self._shapes), statistics)
        spread = {alias: tensor for name, tensor in (weights | statistics).items() for alias in self._aliases.get(name, (name,))}
        return {name: tensor for name, tensor in spread.items() if name in self._present}


def _aliases(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Every name of each parameter and buffer by its first name."""
    names: dict[int, list[str]] = {}
    for name, tensor in _named_tensors(model):
        names.setdefault(id(tensor), []).append(name)
    return {group[0]: tuple(group) for group in names.values()}


def _named_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _arguments(inputs: Any) -> tuple[Any, ...]:
    return tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)


@dataclass(frozen=True)
class Paths:
    """Which path is taken, and why not a faster one.

    Attributes:
        gradient: of values and gradients: ``"stacked"``, or as ``network``.
        network: of everything else: ``"traced"``, ``"channels_last"`` or ``"plain"``.
        n_folded: number of batch norms that are folded into the layers before them.
        reason: why a faster path was not taken; empty where there was none to refuse.

    Example:
        >>> print(Paths("plain", "plain", 0, "a hook"))
        gradients: plain, values and products: plain, folded batch norms: 0 (a hook)
    """

    gradient: str
    network: str
    n_folded: int
    reason: str

    def __str__(self) -> str:  # noqa: D105
        why = f" ({self.reason})" if self.reason else ""
        return f"gradients: {self.gradient}, values and products: {self.network}, folded batch norms: {self.n_folded}{why}"


@dataclass(frozen=True)
class Chosen:
    """The forms of a network that may be used.

    Attributes:
        network: the fastest form that has proved itself.
        stacked: for gradients at several points; None where it does not fit or has not proved itself.
        paths: their names.
    """

    network: Network
    stacked: StackedMlp | None
    paths: Paths


class Proof:
    """The plain path's losses and gradient on the probe, at moved parameters and buffers, for comparison.

    Args:
        plain: the network in its own type.
        finest: the same in float64.
        loss: of each example.
        probe: the examples.
    """

    def __init__(self, plain: PlainNetwork, finest: Arithmetic, loss: ExampleLoss, probe: Probe) -> None:
        self._plain, self._finest, self._loss, self._probe = plain, finest, loss, probe
        own = torch.cat([leaf.detach().flatten() for leaf in plain.leaves]).double()
        self.theta, self._buffers = moved(plain.leaves, own), moved_buffers(flat_buffers(plain.module))
        self.losses, self.gradient = self._evaluate(finest.network, finest.inputs)
        self._own_losses = self._values(plain, probe.inputs)

    def holds(self, double: Network, own: Network) -> bool:
        """Whether a form agrees with the plain path: losses and gradient in float64, and losses in the network's own type.

        Args:
            double: the form in float64.
            own: the form in the network's type.
        """
        try:
            losses, slopes = self._evaluate(double, self._finest.inputs)
            own_losses = self._values(own, self._probe.inputs)
        except Exception:  # a form may fail anywhere; the plain path is always there
            return False
        coarse = torch.finfo(tensors_of(own.leaves)[0].dtype).eps ** 0.5
        return self.agrees(losses, slopes) and _close(own_losses, self._own_losses, coarse)

    def agrees(self, losses: Tensor, slopes: Tensor) -> bool:
        """Whether losses ``[n]`` and the gradient of their sum are the plain path's to rounding, parameter by parameter."""
        sizes = [leaf.numel() for leaf in self._plain.leaves]
        pieces = zip(slopes.split(sizes), self.gradient.split(sizes), strict=True)
        scale = self.gradient.norm() * 1e-3
        near = all(bool((a - b).norm() <= _TOLERANCE * (b.norm() + scale)) for a, b in pieces)
        return near and _close(losses, self.losses, _TOLERANCE)

    def _evaluate(self, network: Network, inputs: Any) -> tuple[Tensor, Tensor]:
        network.write(self.theta, self._buffers)
        with computing(graph=True):
            losses = self._loss(network.outputs(inputs), self._probe.labels).double()
            return losses.detach(), gradient(network, losses.sum())

    def _values(self, network: Network, inputs: Any) -> Tensor:
        network.write(self.theta, self._buffers)
        with computing(graph=network.values_need_graph):
            losses = self._loss(network.outputs(inputs), self._probe.labels).double()
        network.write(self.theta)  # with its own buffers
        return losses


def _close(losses: Tensor, expected: Tensor, tolerance: float) -> bool:
    finite = expected.isfinite()
    scale = expected[finite].abs().mean() if bool(finite.any()) else 1.0
    return bool(finite.any()) and torch.allclose(losses, expected, rtol=tolerance, atol=tolerance * float(scale), equal_nan=True)


def choose(plain: PlainNetwork, names: Sequence[str], finest: Arithmetic, loss: ExampleLoss, probe: Probe, examples: ExampleSet) -> Chosen:
    """The fastest forms that prove themselves; says on the log which they are.

    Args:
        plain: the network in its own type.
        names: the parameters that the vector holds.
        finest: the network in float64, where it runs in it.
        loss: of each example.
        probe: a few of the examples.
        examples: all of them.
    """
    reason = _obstacle(plain, finest)
    if reason is not None:
        return _announced(Chosen(plain, None, Paths("plain", "plain", 0, reason)))
    proof = Proof(plain, finest, loss, probe)
    network, reason = _form(plain, names, finest, probe, proof)
    stacked = _stacked(plain, names, finest, loss, probe, proof) if _all_count(examples) else None
    n_folded = len(network.form.pairs) if isinstance(network, TracedNetwork) else 0
    return _announced(Chosen(network, stacked, Paths("stacked" if stacked else network.name, network.name, n_folded, reason)))


def _announced(chosen: Chosen) -> Chosen:
    logger.info("Objective: %s", chosen.paths)
    return chosen


def _obstacle(plain: PlainNetwork, finest: Arithmetic) -> str | None:
    if next(iter(finest.network.module.parameters())).dtype != torch.float64:
        return "the network does not run in float64, in which a faster form would be compared"
    if plain.values_need_graph or plain.reentrant:
        return "the forward pass takes derivatives or uses reentrant checkpointing"
    return obstacle_to_rewriting(plain.module)


def _form(
    plain: PlainNetwork, names: Sequence[str], finest: Arithmetic, probe: Probe, proof: Proof
) -> tuple[TracedNetwork | PlainNetwork, str]:
    """The traced form, else the module in channels_last, else the plain one; and why not a faster one."""
    prepared = memory_format.prepare(copy_of(plain.module))
    form = folded(prepared, map_tensors(lambda tensor: tensor[:2], probe.inputs))
    reason = "the network cannot be traced"
    if form.largest is not None:
        double = Folded(converted(copy.deepcopy(form.module), torch.float64, None), form.pairs, form.largest)
        traced = TracedNetwork(form, prepared, names)
        if proof.holds(TracedNetwork(double, finest.network.module, names), traced):
            return traced, ""
        reason = "the traced network computes something else"
    if any(parameter.dim() == 4 for parameter in prepared.parameters()):
        double_prepared = memory_format.prepare(copy_of(finest.network.module))
        own = PlainNetwork(prepared, names, "channels_last")
        if proof.holds(PlainNetwork(double_prepared, names), own):
            return own, reason
        reason += ", nor in channels_last"
    return plain, reason


def _all_count(examples: ExampleSet) -> bool:
    """Whether every example is in memory and has a class index that is not ignored."""
    labels = examples.labels if examples.in_memory else None
    return isinstance(labels, Tensor) and labels.dim() == 1 and not labels.is_floating_point() and bool((labels >= 0).all())


def _stacked(
    plain: PlainNetwork, names: Sequence[str], finest: Arithmetic, loss: ExampleLoss, probe: Probe, proof: Proof
) -> StackedMlp | None:
    all_names = list(parameter_shapes(plain.module))
    stacked = StackedMlp.of(plain.module) if loss.is_plain_cross_entropy and list(names) == all_names else None
    if stacked is None or not isinstance(probe.inputs, Tensor) or probe.labels.dim() != 1 or probe.labels.is_floating_point():
        return None
    try:
        values, slopes = stacked.sums(proof.theta[None].to(finest.inputs.dtype), [(finest.inputs, probe.labels)])
    except (RuntimeError, IndexError):
        return None
    proved = torch.allclose(values[0], proof.losses.sum(), rtol=_TOLERANCE) and proof.agrees(proof.losses, slopes[0])
    return stacked if proved else None
