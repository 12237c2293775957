"""Outputs of the layers of a network on a fixed set of examples, by the names of its modules."""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError


def layer_outputs(
    model: nn.Module,
    inputs: Tensor,
    layers: Sequence[str],
    *,
    view: Callable[[Tensor], Tensor] | None = None,
    chunk: int = 256,
) -> dict[str, Tensor]:
    """Outputs of the named modules on ``inputs``, in evaluation mode (dropout off, running statistics of batch norm).

    The model's hooks and modes are the same afterwards, also after an exception. Outputs are copies: a later in-place operation does not
    change them. A result that no module returns (a residual addition) has no name here; take the output of the module around it.

    Args:
        model: any module that takes a batch of inputs.
        inputs: ``[n_examples, ...]`` on the model's device. Floating-point inputs are converted to the model's type.
        layers: names as in ``model.named_modules()``. Of a module that returns several things (an LSTM) the first tensor is taken.
        view: applied to each chunk's output ``[chunk, ...]``, for example ``svcca.spatial_mean``, so that large maps are never kept whole.
        chunk: examples at a time.

    Returns:
        By name, in the order of ``layers``: ``[n_examples, ...]`` on the model's device, in its type.

    Raises:
        ReplicationError: no such module, one that runs more than once or not at all, an output without one row per example, or no inputs.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> {name: tuple(output.shape) for name, output in layer_outputs(model, torch.zeros(5, 4), ["1", "2"]).items()}
    {'1': (5, 3), '2': (5, 2)}
    """
    modules = dict(model.named_modules())
    for name in layers:
        if name not in modules:
            near = difflib.get_close_matches(name, modules, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ReplicationError(f"The model has no module '{name}'{hint}; allowed: the names in model.named_modules().")
    if chunk < 1 or not len(inputs):
        raise ReplicationError(f"Activations of {len(inputs)} inputs in chunks of {chunk} were asked for; allowed: one or more of each.")
    inputs = _in_type_of(model, inputs)
    collected: dict[str, list[Tensor]] = defaultdict(list)
    with _listening({name: modules[name] for name in layers}, collected, view), _evaluating(model), torch.no_grad():
        for n_chunks, part in enumerate(inputs.split(chunk), start=1):
            model(part)
            _check_calls(layers, collected, n_chunks)
            for name in layers:
                _check_rows(name, collected[name][-1], len(part), view)
    return {name: torch.cat(collected[name]) for name in layers}


def _in_type_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Floating-point inputs in the type of the model's parameters; whole numbers (tokens) as they are."""
    types = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return inputs.to(types[0]) if types and inputs.is_floating_point() else inputs


@contextmanager
def _listening(
    modules: dict[str, nn.Module], collected: dict[str, list[Tensor]], view: Callable[[Tensor], Tensor] | None
) -> Iterator[None]:
    def hook_of(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensor = _first_tensor(name, output).detach()
            collected[name].append(tensor.clone() if view is None else view(tensor.clone()))

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _first_tensor(name: str, output: Any) -> Tensor:
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ReplicationError(f"Module '{name}' returns a {type(output).__name__}; allowed: a tensor, or a tuple that begins with one.")
    return output


def _check_calls(layers: Sequence[str], collected: dict[str, list[Tensor]], n_chunks: int) -> None:
    for name in layers:
        if len(collected[name]) != n_chunks:
            calls = len(collected[name]) - n_chunks + 1
            raise ReplicationError(
                f"Module '{name}' runs {calls} times in one pass; allowed: once, so choose the module around it or beside it."
            )


def _check_rows(name: str, output: Tensor, n: int, view: object) -> None:
    if not output.dim() or (len(output) % n if view else len(output) != n):
        raise ReplicationError(f"Module '{name}' gives shape {tuple(output.shape)} for {n} examples; allowed: examples first.")
