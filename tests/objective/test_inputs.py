"""Examples in the forms that users have: the same numbers come out in the same order, or one sentence says what is wrong."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from replication.activations import layer_outputs
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.objective.example_sets import examples_of
from replication.objective.inputs import call, join, main_tensor, map_tensors, n_examples, tensors_of
from replication.stiffness import gram

X, Y = torch.arange(22.0).view(11, 2), torch.arange(11)


class Pairs(Dataset[Any]):
    def __len__(self) -> int:
        return 11

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return X[index], index


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(X, Y, strict=True)


class Dicts(Pairs):
    def __getitem__(self, index: int) -> Any:
        return {"x": X[index], "labels": index}


SOURCES = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "data set": (Pairs(), None),
    "tensor data set": (TensorDataset(X, Y), None),
    "loader": (DataLoader(Pairs(), batch_size=4), None),
    "shuffling loader": (DataLoader(Pairs(), batch_size=4, shuffle=True), None),
    "subset": (Subset(Pairs(), range(11)), None),
    "iterable": (DataLoader(Stream(), batch_size=4), None),
    "batches": ([(X[:3], Y[:3]), (X[3:], Y[3:])], None),
}


@pytest.mark.parametrize("size", [1, 4, 5, 11, 30])
@pytest.mark.parametrize("source", SOURCES)
def test_chunks_are_the_examples_in_order(source: str, size: int) -> None:
    examples = examples_of(*SOURCES[source], None, torch.float64)
    assert examples.n == 11
    for _ in range(2):
        chunks = list(examples.chunks(size))
        assert [len(labels) for _, labels in chunks] == [size] * (11 // size) + [11 % size] * (11 % size > 0)
        assert torch.equal(torch.cat([inputs for inputs, _ in chunks]), X.double())
        assert torch.equal(torch.cat([labels for _, labels in chunks]), Y)
    inputs, labels = examples.select(torch.tensor([10, 0, 3]))
    assert torch.equal(inputs, X[[10, 0, 3]].double())
    assert labels.tolist() == [10, 0, 3]
    assert examples.labels.tolist() == Y.tolist()


def test_dicts_give_their_labels() -> None:
    examples = examples_of(DataLoader(Dicts(), batch_size=4), None, None, torch.float32)
    inputs, labels = next(iter(examples.chunks(11)))
    assert torch.equal(inputs["x"], X)
    assert torch.equal(labels, Y)


def test_whole_numbers_stay_whole_and_complex_ones_complex() -> None:
    tree = {"ids": torch.arange(3), "mask": torch.ones(3, dtype=torch.bool), "z": torch.zeros(3, dtype=torch.cfloat), "x": np.zeros(3)}
    examples = examples_of(tree, torch.zeros(3, dtype=torch.float64), None, torch.float32)
    assert [tensor.dtype for tensor in tensors_of(examples.inputs)] == [torch.int64, torch.bool, torch.complex64, torch.float32]
    assert examples.labels.dtype == torch.float64


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (X, Y[:-1], "11 inputs and 10 labels"),
        (X[:0], Y[:0], "0 inputs and 0 labels"),
        ((X, X[:3]), Y, "examples on their first axis"),
        (X, None, "without labels"),
        (iter([(X, Y)]), None, "read only once"),
        (DataLoader(Pairs(), sampler=WeightedRandomSampler([1.0] * 11, 11)), None, "WeightedRandomSampler"),
        ([X[:3], X[3:]], None, "without labels"),
    ],
)
def test_what_has_no_fixed_examples_is_one_sentence(inputs: Any, labels: Any, words: str) -> None:
    with pytest.raises(ReplicationError, match=words):
        examples_of(inputs, labels, None, torch.float32)


def test_batches_padded_to_different_lengths_are_told() -> None:
    with pytest.raises(ReplicationError, match="cannot be joined"):
        join([torch.zeros(2, 3), torch.zeros(2, 4)])


@dataclasses.dataclass
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...] = ()


def test_outputs_keep_their_form() -> None:
    doubled = map_tensors(lambda tensor: tensor * 2, Output(torch.ones(2), (torch.ones(1),)))
    assert isinstance(doubled, Output)
    assert doubled.hidden[0].item() == 2
    for outputs in (
        torch.ones(2),
        Output(torch.ones(2)),
        {"logits": torch.ones(2)},
        (torch.ones(2), 3),
        [(torch.ones(2),)],
        {"a": torch.ones(2)},
    ):
        assert torch.equal(main_tensor(outputs), torch.ones(2))
    for outputs in (None, "text", (), {}):
        with pytest.raises(ReplicationError, match="named loss needs a tensor"):
            main_tensor(outputs)


class Batch(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["a"] + batch["b"]


class Keywords(nn.Module):
    def forward(self, a: Tensor, b: Tensor | None = None) -> Tensor:
        return a + (0 if b is None else b)


def test_dicts_and_tuples_reach_forward_as_it_takes_them() -> None:
    one = torch.ones(3)
    assert call(Batch(), {"a": one, "b": one}).sum() == 6
    assert call(Keywords(), {"a": one, "b": one}).sum() == 6
    assert call(Keywords(), (one, one)).sum() == 6
    assert n_examples((one, {"b": one})) == 3


@pytest.mark.parametrize("source", [DataLoader(TensorDataset(torch.zeros(0, 2), torch.zeros(0))), []])
def test_a_stream_without_examples_is_one_sentence(source: Any) -> None:
    with pytest.raises(ReplicationError, match="has no examples"):
        examples_of(source, None, None, torch.float32)


def test_reversed_and_foreign_arrays_are_taken_as_they_are() -> None:
    images = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    labels = np.array([0, 1, 0, 1])
    model = nn.Linear(3, 2)
    expected = Objective(model, images[:, ::-1].copy(), labels).value(nn.utils.parameters_to_vector(model.parameters()))
    for inputs in (images[:, ::-1], images[:, ::-1].astype(">f4")):
        objective = Objective(model, inputs, labels.astype(">i8"))
        assert objective.value(objective.parameters()) == expected
        torch.testing.assert_close(layer_outputs(model, inputs, [""])[""], model(torch.tensor(images).flip(1)))


class Ragged(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(index + 1, 2), 0


def test_examples_of_different_shapes_are_one_sentence() -> None:
    for source in (Ragged(), DataLoader(Ragged(), batch_size=2)):
        with pytest.raises(ReplicationError, match="collate_fn that pads"):
            Objective(nn.Linear(2, 2), source)


class Sequences(Dataset[Any]):
    """Sequences of two to six positions."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(2 + index % 5, 4, generator=torch.Generator().manual_seed(index)), index % 3


def padded(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return nn.utils.rnn.pad_sequence([item for item, _ in items], batch_first=True), torch.tensor([label for _, label in items])


class Pooled(nn.Module):
    """The mean over positions, with or without those that were padded."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.layer, self.masked = nn.Linear(4, 3), masked

    def forward(self, x: Tensor) -> Tensor:
        counted = (x.abs().sum(2, keepdim=True) > 0).to(x.dtype) if self.masked else torch.ones_like(x[..., :1])
        return (self.layer(x) * counted).sum(1) / counted.sum(1)


@pytest.mark.parametrize("instrument", [Objective, gram])
def test_networks_that_see_padding_are_refused(instrument: Any) -> None:
    loader = DataLoader(Sequences(), batch_size=1, collate_fn=padded)
    with pytest.raises(ReplicationError, match="padded to the longest of others"):
        instrument(Pooled(masked=False), loader)
    instrument(Pooled(masked=True), loader)


def test_everything_runs_inside_inference_mode() -> None:
    model, x, y = nn.Linear(4, 3), torch.randn(9, 4), torch.arange(9) % 3
    outside = Objective(model, x, y)
    own = outside.parameters()
    with torch.inference_mode():
        objective = Objective(model, x, y)
        assert objective.value(objective.parameters() + 0) == outside.value(own)
        torch.testing.assert_close(objective.gradient(own + 0), outside.gradient(own))
        torch.testing.assert_close(objective.hessian_vector_product(own + 0, own + 0), outside.hessian_vector_product(own, own))
        assert objective.evaluate(own + 0) == outside.evaluate(own)
        torch.testing.assert_close(gram(model, x, y)["total"], gram(model, x, y, fast=False)["total"])


class PooledByMaximum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv1d(4, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.convolution(x.transpose(1, 2))).amax(2))


@pytest.mark.parametrize("seed", range(3))
def test_padding_that_only_some_examples_feel_is_found(seed: int) -> None:
    torch.manual_seed(seed)
    with pytest.raises(ReplicationError, match="padded to the longest of others"):
        gram(PooledByMaximum(), DataLoader(Sequences(), batch_size=1, collate_fn=padded))


def test_examples_that_are_changed_afterwards_are_refused() -> None:
    x, y = torch.randn(9, 4), torch.arange(9) % 3
    for changed in (x, y):
        objective = Objective(nn.Linear(4, 3), x, y)
        changed.mul_(2 if changed is x else 0)
        with pytest.raises(ReplicationError, match="changed in place after they were given"):
            objective.value(objective.parameters())
