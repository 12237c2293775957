"""Networks whose examples influence each other or that draw random numbers, in the forward or only in the backward pass."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from autograd_oracle import X, Y, built
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from replication import activations
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.stiffness import gram, squared_norms


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)

    def couple(self, hidden: Tensor) -> Tensor:
        return hidden + hidden.mean(0) - hidden.mean(0).detach()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.couple(torch.tanh(self.first(x))))


class Shuffled(Coupled):
    """Another example's slope."""

    def couple(self, hidden: Tensor) -> Tensor:
        return hidden + hidden.roll(1, 0) - hidden.roll(1, 0).detach()


class ZeroAtFirst(Coupled):
    """A coupling whose strength is zero at the model's own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))

    def couple(self, hidden: Tensor) -> Tensor:
        return hidden + self.strength * hidden.mean(0)


@pytest.mark.parametrize("kind", [Coupled, Shuffled, ZeroAtFirst])
def test_coupling_in_the_backward_pass_needs_a_chunk(kind: type[nn.Module]) -> None:
    model = built(kind)
    with pytest.raises(ReplicationError, match="or its gradient, changes with the examples beside it"):
        Objective(model, X, Y)
    objective = Objective(model, X, Y, chunk=20, dtype=torch.float64)
    with pytest.raises(ReplicationError, match="in chunks of 20"):
        objective.gradients_on(objective.parameters()[None], torch.arange(3))
    for instrument in (gram, squared_norms):
        if kind is not ZeroAtFirst:  # at these weights there is none
            with pytest.raises(ReplicationError, match="examples do not interact"):
                instrument(model, X, Y)


class Sometimes(Coupled):
    """Takes another branch in one pass out of ten."""

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.draw = draw

    def couple(self, hidden: Tensor) -> Tensor:
        return hidden * 1.5 if self.draw() < 0.1 else hidden


DRAWS = {"torch": lambda: float(torch.rand(())), "numpy": lambda: np.random.rand(), "python": random.random}


@pytest.mark.parametrize("source", DRAWS)
def test_a_branch_taken_once_in_ten_passes_is_seen(source: str) -> None:
    model = built(lambda: Sometimes(DRAWS[source]))
    for seed in range(5):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        with pytest.raises(ReplicationError, match="random"):
            Objective(model, X, Y)
        with pytest.raises(ReplicationError, match="random"):
            gram(model, X, Y)
        with pytest.raises(ReplicationError, match="random"):
            activations.layer_outputs(model, X, ["last"])


class Unused(Coupled):
    """Draws a number that only training would use, as layer drop does."""

    def couple(self, hidden: Tensor) -> Tensor:
        return hidden * 0 if torch.rand(()) < 0.5 and self.training else hidden


def test_numbers_that_are_drawn_and_not_used_do_no_harm() -> None:
    model = built(Unused).eval()
    objective = Objective(model, X, Y)
    assert objective.value(objective.parameters()) == pytest.approx(nn.functional.cross_entropy(model(X), Y).item(), rel=1e-5)
    gram(model, X[:5], Y[:5])
    activations.layer_outputs(model, X, ["last"])


class Checkpointed(nn.Module):
    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(checkpoint(self.first, x, use_reentrant=True)))


def test_reentrant_checkpointing_of_the_first_layer_has_its_gradients() -> None:
    model = built(lambda: Checkpointed(nn.Linear(5, 6)))
    objective = Objective(model, X, Y, dtype=torch.float64)
    theta = objective.parameters()
    rows = torch.stack([objective.gradients_on(theta[None], torch.tensor([i]))[0] for i in range(8)])
    assert bool(rows[:, :36].any())
    torch.testing.assert_close(gram(model, X[:8], Y[:8])["total"], rows @ rows.T)
    torch.testing.assert_close(squared_norms(model, X[:8], Y[:8])["total"], rows.square().sum(1))


def test_reentrant_checkpointing_that_loses_gradients_is_one_sentence() -> None:
    model = built(lambda: Checkpointed(nn.Sequential(nn.Embedding(9, 6), nn.Flatten())))
    ids, labels = torch.arange(9)[:, None], torch.arange(9) % 3
    for instrument in (Objective, gram, squared_norms):
        with pytest.raises(ReplicationError, match="use_reentrant=False"):
            instrument(model, ids, labels)


class ScaledByAny(Coupled):
    """A branch that one example in the batch opens for all."""

    def couple(self, hidden: Tensor) -> Tensor:
        return hidden

    def forward(self, x: Tensor) -> Tensor:
        outputs = super().forward(x)
        return 1.5 * outputs if bool((x[:, 0] > 5).any()) else outputs


def mean_over_the_labelled(outputs: Tensor, labels: Tensor) -> Tensor:
    labelled = (labels != -100).to(outputs.dtype)
    losses = nn.functional.cross_entropy(outputs, labels, reduction="none", ignore_index=-100)
    return losses / labelled.mean()


def rare_examples() -> tuple[Tensor, Tensor]:
    """Five hundred examples, of which one has a large input and another no label."""
    generator = torch.Generator().manual_seed(3)
    inputs, labels = torch.randn(500, 5, generator=generator).clamp(-4, 4), torch.randint(3, (500,), generator=generator)
    inputs[317, 0], labels[211] = 6.0, -100
    return inputs, labels


def test_one_example_that_changes_its_company_is_found() -> None:
    inputs, labels = rare_examples()
    for model, loss in ((built(ScaledByAny), "cross_entropy"), (nn.Linear(5, 3), mean_over_the_labelled)):
        with pytest.raises(ReplicationError, match="changes with the examples beside it"):
            Objective(model, inputs, labels, loss=loss)
        with pytest.raises(ReplicationError, match="examples do not interact"):
            gram(model, inputs, labels, loss=loss)


class ClippedBackward(Coupled):
    """Clips the gradient of its hidden layer, whose size depends on how the losses are summed."""

    def couple(self, hidden: Tensor) -> Tensor:
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
        return hidden


def test_gradients_clipped_on_their_way_are_refused() -> None:
    with pytest.raises(ReplicationError, match="clips or scales gradients"):
        Objective(built(ClippedBackward), X, Y)


class Trimming(nn.Module):
    """Cuts its batch to the longest sequence and takes the mean over what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(20, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        longest = int((ids != 0).sum(1).max())
        return self.last(self.embedding(ids[:, :longest]).mean(1))


@pytest.mark.parametrize("place", [7, 300])
def test_the_one_short_sequence_in_a_batch_that_is_cut_to_the_longest_is_found(place: int) -> None:
    model, ids = built(Trimming), torch.randint(1, 20, (320, 8), generator=torch.Generator().manual_seed(0))
    ids[place, 5:] = 0
    labels = torch.arange(320) % 3
    with pytest.raises(ReplicationError, match="changes with the examples beside it"):
        Objective(model, ids, labels)
    with pytest.raises(ReplicationError, match="examples do not interact"):
        gram(model, ids, labels)
    with pytest.raises(ReplicationError, match="other values among other examples"):
        activations.layer_outputs(model, ids, ["last"])
