"""Recurrent networks."""

from torch import Tensor, nn


class CharacterLstm(nn.Module):
    """Stacked LSTM layers ``lstm1``, ``lstm2``, ... that read the rows of an "image" one after the other; the last state is classified.

    An example is a window of one-hot characters ``[1, length, alphabet]`` and its label the character that follows, so that what trains
    and measures image classifiers does so with text. Each layer is a module of its own, whose output is its hidden states
    ``[n, length, units]``.
    """

    def __init__(self, alphabet: int, units: int, layers: int) -> None:
        super().__init__()
        self.names = [f"lstm{number}" for number in range(1, layers + 1)]
        for name, width in zip(self.names, (alphabet, *(layers - 1) * (units,)), strict=True):
            self.add_module(name, nn.LSTM(width, units, batch_first=True))
        self.logits = nn.Linear(units, alphabet)

    def forward(self, windows: Tensor) -> Tensor:
        """Logits of the next character ``[n, alphabet]`` of windows ``[n, 1, length, alphabet]``."""
        states = windows.flatten(0, 1)
        for name in self.names:
            states, _ = self.get_submodule(name)(states)
        logits: Tensor = self.logits(states[:, -1])
        return logits


def svcca_lstm(*, classes: int = 28, channels: int = 1, units: int = 200, layers: int = 3) -> CharacterLstm:
    """A stacked LSTM for characters, in place of SVCCA's language models (docs/papers/svcca.md: three layers for PTB).

    The published networks read words and nothing is said of them; units, one-hot input and PyTorch's own initialisation are ours.
    832,828 parameters with 28 characters (not published). Input ``[n, 1, length, classes]``, one-hot; 20 characters in our data.
    """
    return CharacterLstm(channels * classes, units, layers)
