"""Which output a name means: of which module, of which of its calls, and which part of what it returns."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from replication.errors import ReplicationError
from replication.objective.networks import unwrapped

Layer = str | nn.Module

_PARTS = re.compile(r"\[([^\[\]]*)\]")
_NAME = re.compile(r"(?P<module>.*?)(?:#(?P<call>\d+))?(?P<parts>(?:\[[^\[\]]*\])*)")


@dataclass(frozen=True)
class Wanted:
    """One output: a part of what a call of a module returns.

    Attributes:
        name: as asked for, or the module's name.
        call: which one, from 1; None where the module has to run once.
        parts: keys or indices that lead to the tensor.
    """

    name: str
    module: nn.Module
    call: int | None = None
    parts: tuple[str, ...] = ()

    def tensor_of(self, output: Any) -> Tensor:
        """The part of what the module returns that was asked for; without parts the first tensor of a tuple.

        Raises:
            ReplicationError: no such part, or one that is no tensor.
        """
        for part in self.parts:
            entries = _entries(output)
            if part not in entries:
                allowed = ", ".join(entries) or "none, it is a tensor"
                raise ReplicationError(f"The output '{self.name}' has no part '{part}'; allowed: {allowed}.")
            output = entries[part]
        while isinstance(output, tuple | list) and not isinstance(output, PackedSequence) and output:
            output = output[0]
        if isinstance(output, PackedSequence):
            output = pad_packed_sequence(output, batch_first=True)[0]
        if not isinstance(output, Tensor):
            kind, parts = type(output).__name__, ", ".join(f"'{self.name}[{key}]'" for key in _entries(output))
            raise ReplicationError(f"Module '{self.name}' returns a {kind}; name a part of it{f': {parts}' if parts else ''}.")
        return output.to_padded_tensor(0.0) if output.is_nested else output

    def check_calls(self, calls: int) -> None:
        """Raises ReplicationError where the module has not run as asked for."""
        name = self.name
        if not calls:
            raise ReplicationError(
                f"Module '{name}' runs 0 times in one pass (it is unused, or only its weights are used); choose another module."
            )
        if self.call is None and calls > 1:
            raise ReplicationError(
                f"Module '{name}' runs {calls} times in one pass; name a call, '{name}#1' to '{name}#{calls}', or the module around it."
            )
        if self.call is not None and not 1 <= self.call <= calls:
            raise ReplicationError(f"The output '{name}' was asked for, and its module runs {calls} times in one pass, counted from 1.")


def resolve(model: nn.Module, layers: Sequence[Layer]) -> list[Wanted]:
    """The outputs that names or modules mean.

    Raises:
        ReplicationError: no layers, or one that the model does not have.

    >>> [wanted.call, wanted.parts] == [2, ("1", "0")] if (wanted := resolve(nn.Sequential(nn.LSTM(2, 3)), ["0#2[1][0]"])[0]) else None
    True
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    if not layers:
        raise ReplicationError("No layers were asked for; give names as in model.named_modules().")
    return [_by_module(layer, modules) if isinstance(layer, nn.Module) else _by_name(layer, modules) for layer in layers]


def _by_module(layer: nn.Module, modules: Mapping[str, nn.Module]) -> Wanted:
    for name, module in modules.items():
        if module is layer or module is unwrapped(layer):
            return Wanted(name=name, module=module)
    raise ReplicationError(f"A {type(layer).__name__} was given as a layer that is no module of the model; give one of its own, or a name.")


def _by_name(layer: str, modules: Mapping[str, nn.Module]) -> Wanted:
    if layer in modules:
        return Wanted(name=layer, module=modules[layer])
    matched = _NAME.fullmatch(layer)
    assert matched is not None
    name = re.sub(r"^((module|_orig_mod)\.)+", "", matched["module"]) if matched["module"] not in modules else matched["module"]
    if name not in modules:
        near = difflib.get_close_matches(name, modules, 1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise ReplicationError(f"The model has no module '{name}'{hint}; allowed: the names in model.named_modules().")
    call = int(matched["call"]) if matched["call"] else None
    return Wanted(name=layer, module=modules[name], call=call, parts=tuple(_PARTS.findall(matched["parts"])))


def _entries(output: Any) -> dict[str, Any]:
    """Parts of an output by key."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in fields(output)}
    if isinstance(output, tuple | list):
        names = getattr(output, "_fields", ())
        return {str(index): value for index, value in enumerate(output)} | dict(zip(names, output, strict=False))
    return {}
