"""The path through checkpoints that were saved during a training, for loss change allocation between them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError

Checkpoint = Mapping[str, Any] | nn.Module | str | Path
_STATE_KEYS = ("state_dict", "model_state_dict", "model")  # where Lightning and common training scripts put the weights
_WRAPPERS = ("module.", "_orig_mod.")  # of parallel training and of torch.compile


class CheckpointPath:
    """State dicts, or files with them, in the order of the training; files are read when they are needed.

    Args:
        checkpoints: models, copies of their state dicts, or files that ``torch.save`` or safetensors wrote. A checkpoint that holds
            the state dict under "state_dict", "model_state_dict" or "model" is accepted too.

    Raises:
        ReplicationError: fewer than two checkpoints, or two that share their memory, because the state dict of a model in training was
            not copied; later, a file that cannot be read or holds no state dict.

    >>> path = CheckpointPath([{"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}, nn.Linear(1, 1)])
    >>> len(path), sorted(path.tensors(0))
    (2, ['bias', 'weight'])
    """

    is_partial = False

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        if len(checkpoints) < 2:
            raise ReplicationError(f"There are {len(checkpoints)} checkpoints; a path needs two or more, in the order of the training.")
        self._checkpoints = [checkpoint.state_dict() if isinstance(checkpoint, nn.Module) else checkpoint for checkpoint in checkpoints]
        places: dict[frozenset[int], int] = {}
        for index, checkpoint in enumerate(self._checkpoints):
            if isinstance(checkpoint, Mapping):
                place = frozenset(tensor.data_ptr() for tensor in self.tensors(index).values() if tensor.numel())
                if place in places:
                    raise ReplicationError(
                        f"Checkpoints {places[place]} and {index} share their memory, so both are the last weights; keep copies: "
                        "copy.deepcopy(model.state_dict())."
                    )
                places[place] = index

    def __len__(self) -> int:
        """Number of checkpoints."""
        return len(self._checkpoints)

    def tensors(self, index: int) -> dict[str, Tensor]:
        """The real tensors of one checkpoint, by name, without the names of wrappers."""
        checkpoint = self._checkpoints[index]
        state = _read(Path(checkpoint)) if isinstance(checkpoint, str | Path) else checkpoint
        for key in _STATE_KEYS:
            if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
                state = state[key]
        if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
            raise ReplicationError(f"Checkpoint {index} holds no state dict; give what model.state_dict() returned.")
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor) and not value.is_complex()}
        return {_without_wrappers(name): tensor.detach() for name, tensor in tensors.items()}


def _without_wrappers(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _read(file: Path) -> Any:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the file leads it to
        reason = " ".join(str(error).split())
        raise ReplicationError(f"Checkpoint {file} cannot be read ({reason[:200]}); give a file that torch.save wrote.") from None
