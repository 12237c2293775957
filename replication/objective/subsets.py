"""Which of a model's parameters a vector holds."""

import difflib
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn

from replication.errors import ReplicationError

Subset = Literal["all", "trainable"] | Sequence[str] | Callable[[str, Tensor], bool]


def chosen_parameters(model: nn.Module, subset: Subset) -> dict[str, Tensor]:
    """The chosen parameters by name, in the order of ``model.named_parameters()``.

    Args:
        subset: ``"all"``, ``"trainable"`` for those that require gradients, names of parameters or of modules with all that they
            contain, or a function of name and parameter. A tied parameter is chosen by any of its names.

    Raises:
        ReplicationError: an unknown name, or no parameter left.

    Example:
        >>> list(chosen_parameters(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)), ["1"]))
        ['1.weight', '1.bias']
    """
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    if isinstance(subset, str):
        if subset not in ("all", "trainable"):
            raise ReplicationError(f"parameters is '{subset}'; allowed: 'all', 'trainable', a list of names, or a function.")
        chosen = {name: tensor for name, tensor in parameters.items() if subset == "all" or tensor.requires_grad}
    elif callable(subset):
        chosen = {name: tensor for name, tensor in parameters.items() if subset(name, tensor)}
    else:
        members = _members(model, subset)
        chosen = {name: tensor for name, tensor in parameters.items() if id(tensor) in members}
    if not chosen:
        raise ReplicationError(f"None of the model's {len(parameters)} parameters is chosen; choose at least one.")
    return chosen


def _members(model: nn.Module, names: Sequence[str]) -> set[int]:
    """The identities of the parameters under these names."""
    every = list(model.named_parameters(remove_duplicate=False))
    allowed = {name for name, _ in every} | {name for name, _ in model.named_modules()} - {""}
    members: set[int] = set()
    for wanted in names:
        if wanted not in allowed:
            near = difflib.get_close_matches(wanted, allowed, 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ReplicationError(f"The model has no parameter or layer '{wanted}'{hint}; allowed: the names in model.named_modules().")
        members |= {id(tensor) for name, tensor in every if name == wanted or name.startswith(f"{wanted}.")}
    return members
