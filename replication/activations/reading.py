"""Inputs in the forms that people have them, chunk by chunk, without labels."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from replication.errors import ReplicationError
from replication.objective.example_sets import ExampleSet, examples_of
from replication.objective.inputs import Tree, as_data, convert, map_tensors, n_examples, take
from replication.objective.probes import probe_of

_FEW = 8  # examples that an unbatched data set is first read in


def chunks(model: nn.Module, inputs: Any, chunk: int) -> Iterator[Tree]:
    """The inputs chunk by chunk, on the model's device and in its type; forms as for ``layer_outputs``.

    Raises:
        ReplicationError: a list of examples, or a data set that gives other examples when it is read again.

    >>> [part.dtype for part in chunks(nn.Linear(2, 1), torch.zeros(3, 2, dtype=torch.float64), 2)]
    [torch.float32, torch.float32]
    """
    tensor = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)

    def prepare(part: Tree) -> Tree:
        if tensor is None:
            return map_tensors(lambda values: values, part)
        return convert(part, tensor.device, tensor.dtype)

    if isinstance(inputs, DataLoader | Dataset):
        if not isinstance(inputs, IterableDataset | DataLoader) and not len(inputs):  # type: ignore[arg-type]
            return
        examples = _examples(model, inputs)
        probe_of(examples, chunk)
        yield from (part for part, _ in examples.chunks(chunk))
        return
    if isinstance(inputs, list) and inputs and all(isinstance(entry, tuple | list) for entry in inputs):
        raise ReplicationError(
            f"The inputs are a list of {len(inputs)} {type(inputs[0]).__name__}s; give a tensor [n_examples, ...], such as torch.stack of "
            "the inputs, or a torch.utils.data.Dataset of these entries."
        )
    inputs, n = as_data(inputs), n_examples(inputs)
    for start in range(0, n, chunk):
        yield prepare(take(inputs, slice(start, start + chunk)))


def padded_examples(model: nn.Module, inputs: Any, n: int) -> Iterator[tuple[int, Tree]]:
    """The first ``n`` examples of a data set that this package puts into batches, each in a batch of its own, where it is padded less.

    Yields:
        place and example.

    >>> list(padded_examples(nn.Linear(2, 1), torch.zeros(3, 2), 2))
    []
    """
    if not isinstance(inputs, DataLoader | Dataset):
        return
    examples = _examples(model, inputs)
    if examples.makes_batches:
        for place in range(min(n, examples.n)):
            yield place, examples.select(torch.tensor([place]))[0]


def _examples(model: nn.Module, source: Any) -> ExampleSet:
    """The examples of a data set or loader, on the model's device and in its type."""
    tensor = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    dtype, device = (torch.float32, None) if tensor is None else (tensor.dtype, tensor.device)
    return examples_of(_with_labels(source), None, device, dtype)


class _AddLabels:
    """A collate function for inputs alone, with labels that nobody reads."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> tuple[Any, Tensor]:
        batch = self.collate(items)
        batch = batch[0] if isinstance(batch, tuple | list) and len(batch) == 1 else batch
        return batch, torch.zeros(n_examples(batch))


def _with_labels(source: Any) -> Any:
    """A data set or loader of pairs (inputs, labels) as it is; of inputs alone, a loader that adds labels."""
    loader = source if isinstance(source, DataLoader) else None
    collate = default_collate if loader is None else loader.collate_fn
    dataset: Any = source if loader is None else loader.dataset
    is_iterable = isinstance(dataset, IterableDataset)
    example = next(iter(source), None) if is_iterable else collate([dataset[0]])
    is_pair = isinstance(example, tuple | list) and len(example) > 1
    if example is None or is_pair or (isinstance(example, Mapping) and {"labels", "label"} & example.keys()):
        return source
    if is_iterable:
        batches = source if loader is not None and loader.batch_size is not None else DataLoader(dataset, batch_size=_FEW)
        return DataLoader(batches.dataset, batch_size=batches.batch_size, collate_fn=_AddLabels(collate))
    if loader is None:
        return DataLoader(dataset, batch_size=_FEW, collate_fn=_AddLabels(collate))
    options = {"batch_size": loader.batch_size, "sampler": loader.sampler, "drop_last": loader.drop_last, "num_workers": loader.num_workers}
    return DataLoader(dataset, collate_fn=_AddLabels(collate), **options)  # type: ignore[arg-type]
