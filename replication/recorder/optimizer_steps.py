"""Calls around each step that an optimizer of torch really makes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from replication.errors import ReplicationError

_WRAPPERS = {"AcceleratedOptimizer": "optimizer", "LightningOptimizer": "_optimizer"}  # their inner optimizer makes the whole step


def inner_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer inside the wrappers of Lightning and Accelerate; any other as it is.

    Raises:
        ReplicationError: something else than an optimizer of torch.

    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> inner_optimizer(sgd) is sgd
    True
    """
    while type(optimizer).__name__ in _WRAPPERS:
        optimizer = vars(optimizer)[_WRAPPERS[type(optimizer).__name__]]
    if not isinstance(optimizer, torch.optim.Optimizer) or "_optimizer_step_post_hooks" not in vars(optimizer):
        raise ReplicationError(
            f"The recorder was given a {type(optimizer).__name__} as optimizer; give a torch.optim.Optimizer, or leave it out and call "
            "recorder.step() after each step."
        )
    return optimizer


def check_trains(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Raise an error unless the optimizer has a parameter of the model, or one in the same memory, such as a flat vector of them.

    Raises:
        ReplicationError: it has none.

    >>> model = nn.Linear(2, 1)
    >>> check_trains(torch.optim.SGD([model.bias], lr=0.1), model)
    """
    own = list(model.parameters())
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if {id(parameter) for parameter in own}.isdisjoint(map(id, trained)) and _places(own).isdisjoint(_places(trained)):
        raise ReplicationError(
            f"The {type(optimizer).__name__} has no parameter of the model, so the recorded weights would never change; give the optimizer "
            "that trains this model, or leave it out and call recorder.step() after each step."
        )


def _places(parameters: Iterable[Tensor]) -> set[int]:
    """Where the memory of parameters begins."""
    return {parameter.untyped_storage().data_ptr() for parameter in parameters if not is_lazy(parameter) and parameter.numel()}


def around_each_step(optimizer: torch.optim.Optimizer, before: Callable[[], None], after: Callable[[], None]) -> Callable[[], None]:
    """Call ``before`` where a step begins and ``after`` behind each that changes the weights, until the returned function is called.

    A step that calls the step of its parent class is one step, and one that a GradScaler skips is none.

    >>> sgd, steps = torch.optim.SGD([torch.zeros(1)], lr=0.1), []
    >>> stop = around_each_step(sgd, lambda: steps.append("begins"), lambda: steps.append("ends"))
    >>> sgd.step()
    >>> stop()
    >>> sgd.step()
    >>> steps
    ['begins', 'ends']
    """
    depth = 0

    def begin(*_: object) -> None:
        nonlocal depth
        if depth == 0:
            before()
        depth += 1

    def end(stepped: torch.optim.Optimizer, *_: object) -> None:
        nonlocal depth
        depth -= 1
        # a GradScaler leaves this to fused optimizers, which skip the step themselves; others it does not call at all
        found_inf = getattr(stepped, "found_inf", None)
        if depth == 0 and (found_inf is None or not bool(torch.as_tensor(found_inf).any())):
            after()

    handles = [optimizer.register_step_pre_hook(begin), optimizer.register_step_post_hook(end)]

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return stop
