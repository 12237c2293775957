"""Inputs and outputs of networks in the forms people have them: tensors, numpy arrays, tuples, dicts, dataclasses.

A *tree* is a tensor, or a tuple, list, dict or dataclass of trees. All tensors of a tree of examples have the examples on their
first axis. Entries that are not tensors (None, numbers, strings) are kept as they are and count for no example.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
        try:
            plain = tree.dtype.isnative and min(tree.strides, default=0) >= 0  # torch takes neither foreign byte orders nor reversed axes
            tree = torch.as_tensor(tree if plain else tree.astype(tree.dtype.newbyteorder("=")).copy())
        except TypeError as error:
            raise ReplicationError(f"An array of type {tree.dtype} holds no numbers; give numbers, for instance class indices.") from error
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
    if not any(shapes) and not isinstance(tree, Tensor | np.ndarray):
        raise ReplicationError(
            f"The {name} are a {type(tree).__name__} without tensors; give tensors or numpy arrays with the examples on their first axis, "
            "alone or in a tuple or dict (a DataFrame has .to_numpy())."
        )
    if not shapes or not all(shapes) or len({shape[0] for shape in shapes}) != 1:
        raise ReplicationError(
            f"The {name} have tensors of shapes {shapes}; give tensors or arrays (also in a tuple or dict) that all have the examples "
            "on their first axis."
        )
    return shapes[0][0]


def as_data(tree: Tree) -> Tree:
    """The tree without graphs, and without what inference mode forbids: examples are data.

    Raises:
        ReplicationError: a sparse or nested tensor.

    Example:
        >>> as_data(torch.ones(1, requires_grad=True)).requires_grad
        False
    """

    def constant(tensor: Tensor) -> Tensor:
        if tensor.layout != torch.strided or tensor.is_nested:
            raise ReplicationError("A tensor of the examples is sparse or nested; give dense tensors (to_dense, or padded).")
        with torch.inference_mode(False):
            return tensor.clone() if tensor.is_inference() else tensor.detach()

    return map_tensors(constant, tree)


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
            f"Chunks of examples cannot be joined ({error}); give one chunk of all, or tensors of one shape (batches padded alike)."
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
