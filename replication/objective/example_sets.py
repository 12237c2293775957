"""Fixed sets of examples: in memory, or read anew from a data set or loader in every pass."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, TensorDataset, default_collate

from replication.errors import ReplicationError
from replication.objective.inputs import Tree, as_data, convert, join, map_tensors, n_examples, take, tensors_of


def n_classes(labels: Tree) -> int:
    """One more than the largest label.

    Raises:
        ReplicationError: labels that are not one class index per example.

    Example:
        >>> n_classes(torch.tensor([0, 2, 1]))
        3
    """
    one_each = isinstance(labels, Tensor) and labels.dim() == 1
    if not one_each or labels.is_floating_point() or labels.is_complex() or not bool((labels >= 0).any()):
        shape = f"shape {tuple(labels.shape)} and type {labels.dtype}" if isinstance(labels, Tensor) else f"type {type(labels).__name__}"
        raise ReplicationError(f"The labels have {shape}; splitting by class needs one class index per example, [n] of an integer type.")
    return int(labels.max()) + 1


class ExampleSet:
    """A fixed set of examples in a fixed order, in memory.

    Args:
        inputs: a tree of tensors, on their device and in their type.
        labels: a tree of tensors with as many examples.

    Attributes:
        n: number of examples.

    Example:
        >>> [len(labels) for _, labels in ExampleSet(torch.zeros(5, 2), torch.zeros(5)).chunks(2)]
        [2, 2, 1]
    """

    def __init__(self, inputs: Tree, labels: Tree) -> None:
        self.inputs, self.labels, self.n = inputs, labels, n_examples(labels, "labels")
        self._classes: dict[int, tuple[Tree, Tree]] = {}
        self._versions = _versions((inputs, labels))

    @property
    def in_memory(self) -> bool:
        """Whether all examples lie in memory."""
        return True

    def chunks(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """Inputs and labels of ``size`` consecutive examples at a time; the last chunk may be smaller.

        Raises:
            ReplicationError: a tensor was changed in place since.
        """
        if _versions((self.inputs, self.labels)) != self._versions:
            raise ReplicationError("The inputs or labels were changed in place after they were given; give copies of them (clone).")
        for start in range(0, self.n, size):
            chunk = slice(start, start + size)
            yield take(self.inputs, chunk), take(self.labels, chunk)

    def chunks_of_class(self, label: int, size: int) -> Iterator[tuple[Tree, Tree]]:
        """The examples with this class index, in chunks of ``size``; a copy of them is kept."""
        if label not in self._classes:
            self._classes[label] = self.select((self.labels == label).nonzero().flatten())
        inputs, labels = self._classes[label]
        if len(labels):
            yield from ExampleSet(inputs, labels).chunks(size)

    def select(self, examples: Tensor) -> tuple[Tree, Tree]:
        """Inputs and labels of the examples with these indices."""
        return take(self.inputs, examples), take(self.labels, examples)

    @property
    def makes_batches(self) -> bool:
        """Whether batches are put together here, from single examples, so that an example may be padded to the longest beside it."""
        return False


def _versions(tree: Tree) -> list[int]:
    """How often each tensor was changed in place; the tensors are the user's own where nothing had to be converted."""
    return [tensor._version for tensor in tensors_of(tree)]


class ExamplesInDouble(ExampleSet):
    """The same examples with floating-point inputs in float64, converted chunk by chunk.

    Example:
        >>> next(ExamplesInDouble(ExampleSet(torch.zeros(5, 2), torch.zeros(5))).chunks(2))[0].dtype
        torch.float64
    """

    def __init__(self, examples: ExampleSet) -> None:
        self._examples, self.labels, self.n = examples, examples.labels, examples.n

    @property
    def in_memory(self) -> bool:
        """Counts as read from a stream."""
        return False

    def chunks(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """As of the examples that it was made from."""
        for inputs, labels in self._examples.chunks(size):
            yield convert(inputs, tensors_of(inputs)[0].device, torch.float64), labels


class ExampleStream(ExampleSet):
    """A fixed set of examples that is read anew, in the same order, in every pass.

    Args:
        source: a map-style data set, or batches ``(inputs, labels)`` that can be iterated again and again.
        collate: joins single examples of a data set into a batch; its own by default.
        prepare: applied to inputs and labels of each batch; it brings them to their device and type.
        n: use only the first ones of a data set.
        workers: processes that read a data set.
    """

    def __init__(
        self,
        source: Any,
        prepare: Callable[[Tree, Tree], tuple[Tree, Tree]],
        *,
        collate: Callable[[list[Any]], Any] = default_collate,
        n: int | None = None,
        workers: int = 0,
    ) -> None:
        self._source, self._prepare, self._collate, self._workers = source, prepare, collate, workers
        self._has_indices = isinstance(source, Dataset) and not isinstance(source, IterableDataset)
        count = len(source) if n is None and self._has_indices else n
        if count == 0 or (count is None and next(iter(source), None) is None):
            raise ReplicationError(f"The {type(source).__name__} has no examples; give at least one (a loader may drop a small batch).")
        self.n = n_examples(self.labels, "labels") if count is None else count

    @property
    def in_memory(self) -> bool:
        """Whether all examples lie in memory."""
        return False

    @property
    def makes_batches(self) -> bool:
        """As in ``ExampleSet``."""
        return self._has_indices

    @functools.cached_property
    def labels(self) -> Tree:
        """The labels of all examples, which are kept from the first pass on."""
        return join([labels for _, labels in self._batches(256)])

    def chunks(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """Inputs and labels of exactly ``size`` consecutive examples at a time, joined or cut as needed; the last may be smaller."""
        pending: list[tuple[Tree, Tree]] = []
        count = 0
        for batch in self._batches(size):
            pending, count = [*pending, batch], count + n_examples(batch[1], "labels")
            if count < size:
                continue
            whole = pending[0] if len(pending) == 1 else join(pending)
            for start in range(0, count - size + 1, size):
                yield take(whole, slice(start, start + size)) if count > size else whole
            rest = count % size
            pending, count = ([take(whole, slice(count - rest, count))] if rest else []), rest
        if pending:
            yield join(pending)

    def select(self, examples: Tensor) -> tuple[Tree, Tree]:
        """Inputs and labels of the examples with these indices, in their order."""
        wanted = examples.tolist()
        if self._has_indices:
            with _collating():
                return self._prepare(*_pair(self._collate([self._source[index] for index in wanted])))
        kept: dict[int, tuple[Tree, Tree]] = {}
        start = 0
        for inputs, labels in self._batches(256):
            stop = start + n_examples(labels, "labels")
            for index in {index for index in wanted if start <= index < stop}:
                kept[index] = take((inputs, labels), slice(index - start, index - start + 1))
            start = stop
        return join([kept[index] for index in wanted])

    def _batches(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        batches = self._source
        if self._has_indices:
            ordered = _FirstExamples(self._source, self.n)
            batches = DataLoader(ordered, batch_size=size, collate_fn=self._collate, num_workers=self._workers)
        batches = iter(batches)
        while True:
            with _collating():
                batch = next(batches, None)
            if batch is None:
                return
            yield self._prepare(*_pair(batch))


@contextmanager
def _collating() -> Iterator[None]:
    """Turn the error of torch's collate function into a sentence."""
    try:
        yield
    except RuntimeError as error:
        if "stack expects each tensor to be equal size" not in str(error):
            raise
        raise ReplicationError(
            f"Examples cannot be put into one batch ({' '.join(str(error).split())}); give tensors of one shape, or a DataLoader with a "
            "collate_fn that pads all batches to the same shape."
        ) from None


class _FirstExamples(Dataset[Any]):
    def __init__(self, source: Any, n: int) -> None:
        self._source, self._n = source, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> Any:
        return self._source[index]


def _pair(batch: Any) -> tuple[Tree, Tree]:
    """Inputs and labels of a batch: a dict with ``labels``, or a sequence that ends with the labels."""
    if isinstance(batch, Mapping):
        entries = dict(batch)
        for key in ("labels", "label"):
            if key in entries:
                return {name: value for name, value in entries.items() if name != key}, entries[key]
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else tuple(batch[:-1])), batch[-1]
    raise ReplicationError(
        f"A batch is a {type(batch).__name__} without labels; give batches (inputs, labels), or dicts with an entry 'labels'."
    )


def examples_of(inputs: Any, labels: Any, device: torch.device | str | None, dtype: torch.dtype) -> ExampleSet:
    """The examples in any of the forms that users have.

    Args:
        inputs: a tree of tensors or arrays ``[n, ...]``; or, with ``labels=None``, a ``Dataset``, a ``DataLoader``, or batches
            ``(inputs, labels)`` that can be iterated again. A loader that shuffles is read in the order of its data set.
        labels: a tree of tensors or arrays ``[n, ...]``.
        device: where to put the examples; by default where the inputs are.
        dtype: of floating-point inputs. Labels keep their type.

    Raises:
        ReplicationError: no examples, unequal numbers of inputs and labels, an iterator that can be read only once, or a loader that
            samples.

    Example:
        >>> examples_of(DataLoader(TensorDataset(torch.zeros(5, 2), torch.zeros(5)), shuffle=True), None, None, torch.float32).n
        5
    """
    if isinstance(inputs, TensorDataset) and labels is None:
        inputs, labels = _pair(inputs.tensors)
    if labels is None:
        return _stream_of(inputs, device or "cpu", dtype)
    inputs, labels = as_data((inputs, labels))
    lengths = [len(tensor) if tensor.dim() else 1 for tensor in (*tensors_of(inputs)[:1], *tensors_of(labels)[:1])]
    if len(lengths) == 2 and (lengths[0] == 0 or lengths[0] != lengths[1]):
        raise ReplicationError(f"{lengths[0]} inputs and {lengths[1]} labels were given; give one label for each of at least one input.")
    n_examples(inputs), n_examples(labels, "labels")
    device = device if device is not None else tensors_of(inputs)[0].device
    return ExampleSet(convert(inputs, device, dtype), map_tensors(lambda tensor: tensor.to(device), labels))


def _stream_of(source: Any, device: torch.device | str, dtype: torch.dtype) -> ExampleSet:
    def prepare(inputs: Tree, labels: Tree) -> tuple[Tree, Tree]:
        inputs, labels = as_data((inputs, labels))
        return convert(inputs, device, dtype), map_tensors(lambda tensor: tensor.to(device), labels)

    if isinstance(source, DataLoader):
        return _stream_of_loader(source, prepare)
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        return ExampleStream(source, prepare)
    if isinstance(source, Tensor | np.ndarray | Mapping) or not hasattr(source, "__iter__"):
        raise ReplicationError(f"Inputs of type {type(source).__name__} were given without labels; give labels, a Dataset or a DataLoader.")
    if iter(source) is source:
        raise ReplicationError("The inputs are an iterator that can be read only once; give a Dataset, a DataLoader, or a list of batches.")
    return ExampleStream(source, prepare)


def _stream_of_loader(loader: DataLoader[Any], prepare: Callable[[Tree, Tree], tuple[Tree, Tree]]) -> ExampleSet:
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None:
        return ExampleStream(loader, prepare)
    sampler: Any = loader.sampler
    dataset: Any = loader.dataset
    whole = len(dataset)
    permutes = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == whole
    if not isinstance(sampler, SequentialSampler) and not permutes:
        raise ReplicationError(
            f"The DataLoader draws its examples by a {type(sampler).__name__}; the loss needs a fixed set, so give a DataLoader without it."
        )
    n = whole // loader.batch_size * loader.batch_size if loader.drop_last and not permutes else whole
    return ExampleStream(dataset, prepare, collate=loader.collate_fn, n=n, workers=loader.num_workers)
