"""Copies of a user's network: unwrapped, in evaluation mode, in one type, with weights that are written in place.

Weights are put into the copy's own parameters and stay there through the backward pass. So whatever the forward pass does stands:
parameters that are tied or kept in lists, parametrisations, hooks, activation checkpointing, code under ``no_grad``.
"""

import copy
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy

from replication.errors import ReplicationError
from replication.objective.inputs import convert_tensor

BatchNorm = Literal["running", "batch"]
Module = TypeVar("Module", bound=nn.Module)


def unwrapped(model: Any) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``; any other as it is.

    Raises:
        ReplicationError: not an ``nn.Module``, or one of TorchScript.

    Example:
        >>> unwrapped(torch.nn.DataParallel(nn.Linear(2, 1)))
        Linear(in_features=2, out_features=1, bias=True)
    """
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            raise ReplicationError("The model is TorchScript, whose weights cannot be exchanged; give the nn.Module it was made from.")
        if not isinstance(model, nn.Module):
            raise ReplicationError(f"The model is a {type(model).__name__}; give an nn.Module.")
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        else:
            return model


def copy_of(model: nn.Module) -> nn.Module:
    """An independent copy of the unwrapped model.

    Tensors that a module holds as plain attributes and that belong to a graph (a stored activation, the weight of
    ``weight_norm`` or of a pruned layer) are copied without it.

    Raises:
        ReplicationError: a model that cannot be copied, or whose lazy modules have no shapes yet.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> model.stored = model(torch.ones(1, 2))  # copy.deepcopy refuses this
        >>> copy_of(model).stored.requires_grad
        False
    """
    model = unwrapped(model)
    lazy = [name for name, tensor in _tensors_of(model) if is_lazy(tensor)]
    if lazy:
        raise ReplicationError(f"Parameter '{lazy[0]}' of a lazy module has no shape yet; pass one batch through the model first.")
    absent = [name for name, tensor in _tensors_of(model) if tensor.is_meta]
    if absent:
        raise ReplicationError(f"'{absent[0]}' is on the meta device and has no values; give a model with weights.")
    try:
        return copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in _graph_tensors(model)})
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ReplicationError(f"The model cannot be copied ({reason}); remove the attribute that copy.deepcopy refuses.") from error


def evaluation_copy(
    model: nn.Module,
    *,
    batch_norm: BatchNorm = "running",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """A copy in evaluation mode whose parameters are ready for derivatives, also those that the model has frozen.

    Args:
        model: any network; never changed.
        batch_norm: with ``"batch"`` batch norms use the statistics of the examples they see instead of running ones.
        dtype: of floating-point parameters and buffers; their own by default.
        device: where to put it; its own by default.

    Raises:
        ReplicationError: as in ``copy_of``, a parameter that is complex or of an integer type, or one that evaluation mode changes.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 1), nn.Dropout())
        >>> duplicate = evaluation_copy(model, dtype=torch.float64)
        >>> duplicate.training, duplicate[0].weight.dtype, model.training
        (False, torch.float64, True)
    """
    duplicate = copy_of(model)
    for name, parameter in duplicate.named_parameters():
        if not parameter.is_floating_point():
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ReplicationError(
                f"Parameter '{name}' has type {kind}, and the vector of parameters is real; keep real and imaginary part as one real "
                "parameter (torch.view_as_real), or make it a buffer."
            )
    _evaluate(duplicate)
    for module in duplicate.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and batch_norm == "batch":
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    converted(duplicate, dtype, device)
    for module in duplicate.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # the same gradients, which can be differentiated again
    for parameter in duplicate.parameters():
        parameter.requires_grad_(True)
    return duplicate


def _evaluate(duplicate: nn.Module) -> None:
    before = {name: parameter.detach().clone() for name, parameter in duplicate.named_parameters()} if duplicate.training else {}
    duplicate.eval()
    after = {name: parameter.detach() for name, parameter in duplicate.named_parameters()}
    for name, parameter in before.items():
        if name not in after or not torch.equal(after[name].nan_to_num(), parameter.nan_to_num()):
            raise ReplicationError(
                f"Putting the model into evaluation mode changes parameter '{name}' (adapters that are merged into weights?); call "
                "model.eval() before you give it, or switch the merging off."
            )


def converted(model: Module, dtype: torch.dtype | None, device: torch.device | str | None) -> Module:
    """Bring a model to a device and a floating-point type, in place; complex buffers stay complex.

    Example:
        >>> converted(nn.Linear(1, 1), torch.float64, None).weight.dtype
        torch.float64
    """
    return model._apply(lambda tensor: convert_tensor(tensor, device or tensor.device, dtype or tensor.dtype))


def obstacle_to_rewriting(model: nn.Module) -> str | None:
    """What forbids to run the network in another form than by its own ``forward``; None where nothing does.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> _ = model.register_forward_hook(lambda module, inputs, output: 2 * output)
        >>> obstacle_to_rewriting(model)
        'a hook'
    """
    shared = nn.modules.module
    if any(getattr(shared, name) for name in vars(shared) if name.startswith("_global_") and name.endswith("_hooks")):
        return "a global hook"
    for module in model.modules():
        if any(value for name, value in vars(module).items() if name.endswith("_hooks") and "state_dict" not in name):
            return "a hook"
        if hasattr(module, "parametrizations"):
            return "a parametrisation"
        # our own replacement of _conv_forward (memory_format) computes the same
        if any(callable(getattr(type(module), name, None)) for name in vars(module) if name != "_conv_forward"):
            return "a replaced method"
    return None


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _graph_tensors(model: nn.Module) -> Iterator[Tensor]:
    """Tensors with a graph among the attributes of the modules, also inside of lists, tuples and dicts."""
    pending: list[Any] = [value for module in model.modules() for value in vars(module).values()]
    seen: set[int] = set()
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor) and not value.is_leaf:
            yield value
        elif isinstance(value, list | tuple | set):
            pending.extend(value)
        elif isinstance(value, dict):
            pending.extend(value.values())
