"""The user's own module as a function of the parameter vector: the path that is right for any network.

Weights are written into the parameters of a copy, in place, and derivatives are taken by these parameters with ``backward``. The
weights stay there until the backward pass is over, so activation checkpointing recomputes with the right ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.graphs import ExactWeightNorm
from replication.objective.inputs import call, map_tensors
from replication.objective.vector import flat_buffers, flatten, unflatten, write_buffers


class Network(Protocol):
    """A network in any form, as a function of the parameter vector."""

    name: str
    values_need_graph: bool

    @property
    def leaves(self) -> Sequence[Tensor]:
        """What derivatives are taken by; together they hold the vector that was written last."""
        ...

    def write(self, theta: Tensor, buffers: Tensor | None = None) -> None:
        """Make ``theta`` ``[n_parameters]`` and ``buffers`` ``[n_buffers]`` the weights and statistics; by default the model's own."""
        ...

    def outputs(self, inputs: Any) -> Any:
        """What the network returns for a chunk of examples."""
        ...


class PlainNetwork:
    """The module itself, called as the user calls it.

    Args:
        module: an evaluation copy (``networks.evaluation_copy``) that nobody else uses; its weights are overwritten.
        names: the parameters that the vector holds, in order; all others keep their values and get no derivatives.
        name: of the path, for the log.

    Attributes:
        own_buffers: the module's floating-point buffers ``[n_buffers]``, float64.
        copies_inputs: the forward pass changes its inputs in place, so it gets copies.
        reentrant: the forward pass uses checkpointing that needs inputs with a gradient.
        values_need_graph: the forward pass takes derivatives itself, so values cannot be had under ``no_grad``.
        weight_norm: the forward pass uses torch's weight norm, which is replaced by a form that can be differentiated twice.

    Example:
        >>> network = PlainNetwork(nn.Linear(1, 1), ["bias"])
        >>> network.write(torch.tensor([3.0]))
        >>> network.outputs(torch.zeros(1, 1)).item()
        3.0
    """

    def __init__(self, module: nn.Module, names: Sequence[str], name: str = "plain") -> None:
        self.module, self.name = module, name
        self.copies_inputs = self.reentrant = self.values_need_graph = self.weight_norm = False
        parameters = dict(module.named_parameters())
        self._parameters = {key: parameters[key] for key in names}
        self._shapes = {key: parameter.shape for key, parameter in self._parameters.items()}
        for key, parameter in parameters.items():
            parameter.requires_grad_(key in self._parameters)
        self.own_buffers = flat_buffers(module)
        self._buffers_moved = False

    def alike(self, module: nn.Module) -> "PlainNetwork":
        """Another copy of the module with the same needs."""
        network = PlainNetwork(module, list(self._parameters), self.name)
        for need in ("copies_inputs", "reentrant", "values_need_graph", "weight_norm"):
            setattr(network, need, getattr(self, need))
        return network

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The parameters themselves."""
        return list(self._parameters.values())

    def checked_buffers(self, buffers: Tensor | None) -> Tensor | None:
        """The buffers ``[n_buffers]`` in float64 on the network's device; None stands for its own.

        Raises:
            ReplicationError: another length than the network's.
        """
        own = self.own_buffers
        if buffers is not None and buffers.shape != own.shape:
            raise ReplicationError(f"The buffers have shape {tuple(buffers.shape)}; the model's own have {tuple(own.shape)}: give as many.")
        return None if buffers is None else buffers.to(own.device).double()

    def write(self, theta: Tensor, buffers: Tensor | None = None) -> None:
        """Put the vectors into the parameters and buffers; as in ``Network``."""
        with torch.no_grad():
            for key, piece in unflatten(theta, self._shapes).items():
                self._parameters[key].copy_(piece)
        if buffers is not None or self._buffers_moved:
            write_buffers(self.module, self.own_buffers if buffers is None else buffers)
            self._buffers_moved = buffers is not None

    def outputs(self, inputs: Any) -> Any:
        """What the module returns."""
        with ExactWeightNorm() if self.weight_norm else nullcontext():
            return call(self.module, self.own_inputs(inputs))

    def own_inputs(self, inputs: Any) -> Any:
        """The inputs as the forward pass needs them: copies where it changes them or needs their gradient."""
        return map_tensors(self._own_copy, inputs) if self.copies_inputs or self.reentrant else inputs

    def _own_copy(self, tensor: Tensor) -> Tensor:
        own = tensor.detach().clone().requires_grad_(self.reentrant and tensor.is_floating_point())
        return own.clone() if torch.is_grad_enabled() else own  # no leaf, so that it may be changed in place


def gradient(network: Network, total: Tensor, *, retain_graph: bool = False) -> Tensor:
    """The derivative of a scalar by the vector, float64 ``[n_parameters]``; zero for parameters without influence.

    ``backward`` is used since reentrant checkpointing allows nothing else.

    Raises:
        ReplicationError: the backward pass fails.
    """
    for leaf in network.leaves:
        leaf.grad = None
    if total.requires_grad:
        try:
            total.backward(retain_graph=retain_graph)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ReplicationError(
                f"The gradient of the loss cannot be taken ({reason}); change no tensor in place that the backward pass needs, and keep "
                "none with a graph from one pass to the next."
            ) from error
    pieces = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.to_dense() for leaf in network.leaves]
    for leaf in network.leaves:
        leaf.grad = None
    return flatten(pieces).double()


@contextmanager
def _without_autocast() -> Iterator[None]:
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def computing(*, graph: bool) -> Iterator[None]:
    """Record a graph or not and leave autocast off, whatever the caller has chosen; attention layers compute the same in both cases.

    In evaluation mode without a graph, torch's encoder layers otherwise take a path that leaves out padded positions.
    """
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(False), torch.set_grad_enabled(graph), _without_autocast():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
