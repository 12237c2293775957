"""Examples in the forms people have them: tensors, numpy arrays, tuples, dicts, data sets and loaders.

A *tree* is a tensor, or a tuple, list, dict or dataclass of trees. All tensors of a tree of examples have the examples on their
first axis. Entries that are not tensors (None, numbers, strings) are kept as they are and count for no example.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, TensorDataset, default_collate

from replication.errors import ReplicationError

Tree = Any
_COMPLEX = {torch.float64: torch.complex128, torch.float16: torch.complex32}


def map_tensors(function: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """The same tree with ``function`` applied to each tensor; numpy arrays become tensors first.

    Example:
        >>> map_tensors(lambda tensor: tensor + 1, {"ids": torch.tensor([1, 2]), "name": "text"})
        {'ids': tensor([2, 3]), 'name': 'text'}
    """
    if isinstance(tree, np.ndarray | np.generic):
        tree = torch.as_tensor(tree)
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, Mapping):
        entries = {key: map_tensors(function, value) for key, value in tree.items()}
        return type(tree)(**entries) if dataclasses.is_dataclass(tree) else entries
    if isinstance(tree, tuple | list):
        items = [map_tensors(function, item) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        changed = {field.name: map_tensors(function, getattr(tree, field.name)) for field in dataclasses.fields(tree) if field.init}
        return dataclasses.replace(tree, **changed)
    return tree


def tensors_of(tree: Tree) -> list[Tensor]:
    """The tensors of a tree, in order.

    Example:
        >>> tensors_of((torch.tensor(1), {"a": torch.tensor(2)}, None))
        [tensor(1), tensor(2)]
    """
    tensors: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_tensors(keep, tree)
    return tensors


def n_examples(tree: Tree, name: str = "inputs") -> int:
    """The length of the first axis, which all tensors of the tree must share.

    Args:
        name: what the tree is called in messages.

    Raises:
        ReplicationError: no tensor at all, a tensor without axes, or first axes of different lengths.

    Example:
        >>> n_examples({"ids": torch.zeros(4, 7), "mask": torch.ones(4, 7)})
        4
    """
    shapes = [tuple(tensor.shape) for tensor in tensors_of(tree)]
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) != 1:
        raise ReplicationError(
            f"The {name} have tensors of shapes {shapes}; give tensors or arrays (also in a tuple or dict) that all have the examples "
            "on their first axis."
        )
    return shapes[0][0]


def take(tree: Tree, examples: Any) -> Tree:
    """The examples of a slice, or of a tensor of indices.

    Example:
        >>> take((torch.arange(4), torch.arange(4) * 10), slice(1, 3))
        (tensor([1, 2]), tensor([10, 20]))
    """
    return map_tensors(lambda tensor: tensor[examples], tree)


def join(trees: Sequence[Tree]) -> Tree:
    """Trees of the same form as one, with all their examples in order.

    Raises:
        ReplicationError: tensors that differ in more than the number of examples, such as batches padded to different lengths.

    Example:
        >>> join([{"x": torch.tensor([1])}, {"x": torch.tensor([2, 3])}])
        {'x': tensor([1, 2, 3])}
    """
    columns = zip(*(tensors_of(tree) for tree in trees), strict=True)
    try:
        joined = iter([torch.cat(column) for column in columns])
    except RuntimeError as error:
        raise ReplicationError(
            f"Batches of the stream cannot be joined ({error}); give batches of the size of the chunk, or tensors of one shape."
        ) from None
    return map_tensors(lambda _: next(joined), trees[0])


def convert(tree: Tree, device: torch.device | str, dtype: torch.dtype) -> Tree:
    """The tree on ``device`` and contiguous: floating-point tensors in ``dtype``, complex ones in its precision, others in their own.

    Token ids and masks stay whole numbers.

    Example:
        >>> [tensor.dtype for tensor in convert((torch.zeros(1), torch.tensor([3])), "cpu", torch.float64)]
        [torch.float64, torch.int64]
    """
    return map_tensors(lambda tensor: convert_tensor(tensor, device, dtype).contiguous(), tree)


def convert_tensor(tensor: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """One tensor, as in ``convert``.

    Example:
        >>> convert_tensor(torch.zeros(1, dtype=torch.complex64), "cpu", torch.float64).dtype
        torch.complex128
    """
    if tensor.is_complex():
        return tensor.to(device, _COMPLEX.get(dtype, torch.complex64))
    return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)


def call(model: nn.Module, inputs: Tree) -> Any:
    """The model's outputs: a dict is passed by keyword and a tuple by position where ``forward`` accepts that, else as one argument.

    Example:
        >>> call(nn.Bilinear(2, 3, 1), (torch.ones(5, 2), torch.ones(5, 3))).shape
        torch.Size([5, 1])
    """
    if isinstance(inputs, Mapping) and _accepts(model, (), dict(inputs)):
        return model(**inputs)
    if isinstance(inputs, tuple | list) and _accepts(model, tuple(inputs), {}):
        return model(*inputs)
    return model(inputs)


def _accepts(model: nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
    try:
        inspect.signature(model.forward).bind(*positional, **keywords)
    except (TypeError, ValueError):
        return False
    return True


def main_tensor(outputs: Any) -> Tensor:
    """The tensor of predictions: the output itself, its ``logits`` (attribute or key), or the first of several.

    Raises:
        ReplicationError: there is none.

    Example:
        >>> main_tensor({"logits": torch.tensor([1.0]), "hidden": torch.tensor([2.0])})
        tensor([1.])
    """
    while not isinstance(outputs, Tensor):
        logits = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
        if isinstance(logits, Tensor):
            return logits
        values = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
        if not isinstance(values, tuple | list) or not values:
            raise ReplicationError(
                f"The network returns a {type(outputs).__name__}; a named loss needs a tensor, something with `logits`, or a tuple that "
                "begins with a tensor, so give a loss function of your own, which gets the outputs as they are."
            )
        outputs = values[0]
    return outputs


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

    @property
    def in_memory(self) -> bool:
        """Whether all examples lie in memory."""
        return True

    def chunks(self, size: int) -> Iterator[tuple[Tree, Tree]]:
        """Inputs and labels of ``size`` consecutive examples at a time; the last chunk may be smaller."""
        for start in range(0, self.n, size):
            chunk = slice(start, start + size)
            yield take(self.inputs, chunk), take(self.labels, chunk)

    def select(self, examples: Tensor) -> tuple[Tree, Tree]:
        """Inputs and labels of the examples with these indices."""
        return take(self.inputs, examples), take(self.labels, examples)


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
        self.n = n if n is not None else len(source) if self._has_indices else n_examples(self.labels, "labels")

    @property
    def in_memory(self) -> bool:
        """Whether all examples lie in memory."""
        return False

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
        for batch in batches:
            yield self._prepare(*_pair(batch))


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
    inputs, labels = map_tensors(lambda tensor: tensor, (inputs, labels))
    lengths = [len(tensor) if tensor.dim() else 1 for tensor in (*tensors_of(inputs)[:1], *tensors_of(labels)[:1])]
    if len(lengths) == 2 and (lengths[0] == 0 or lengths[0] != lengths[1]):
        raise ReplicationError(f"{lengths[0]} inputs and {lengths[1]} labels were given; give one label for each of at least one input.")
    n_examples(inputs), n_examples(labels, "labels")
    device = device if device is not None else tensors_of(inputs)[0].device
    return ExampleSet(convert(inputs, device, dtype), map_tensors(lambda tensor: tensor.to(device), labels))


def _stream_of(source: Any, device: torch.device | str, dtype: torch.dtype) -> ExampleSet:
    def prepare(inputs: Tree, labels: Tree) -> tuple[Tree, Tree]:
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
