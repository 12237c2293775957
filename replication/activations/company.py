"""Whether rows are examples: an example must get the same rows alone, among others, and in another order.

Examples may influence each other through a few of them only, for instance through the largest value of a batch. So the examples that are
run again come from the whole set, and those with the largest outputs are among them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.objective.inputs import Tree, join, map_tensors, n_examples, tensors_of
from replication.objective.probes import extreme

Run = Callable[[Tree], dict[str, Tensor]]

_FEW = 8  # examples that are run again together
_ALONE = 8  # examples that are run again by themselves
_ACCELERATED = 1e-3  # relative difference from rounding in float32 on an accelerator, which may multiply in TF32


@dataclass(frozen=True)
class Rows:
    """Examples with the rows that they got.

    Attributes:
        inputs: a tree of n examples.
        outputs: ``[n, rows of an example, ...]`` by name.
    """

    inputs: Tree
    outputs: Mapping[str, Tensor]

    @classmethod
    def of(cls, inputs: Tree, outputs: Mapping[str, Tensor]) -> "Rows":
        """The rows ``outputs`` of a pass on ``inputs``, ``[n or a multiple, ...]``.

        >>> Rows.of(torch.zeros(2, 5), {"layer": torch.zeros(6, 4)}).outputs["layer"].shape
        torch.Size([2, 3, 4])
        """
        n = n_examples(inputs)
        return cls(inputs, {name: output.unflatten(0, (n, -1)) for name, output in outputs.items()})

    @property
    def n(self) -> int:
        """Number of examples."""
        return n_examples(self.inputs)

    @property
    def largest(self) -> int:
        """The example with the largest output of the last layer, where influences of earlier ones show."""
        return int(_sizes(list(self.outputs.values())[-1]).argmax())

    @property
    def unusual(self) -> list[int]:
        """A few examples with extreme inputs."""
        return extreme(self.inputs)

    @property
    def sizes(self) -> dict[str, float]:
        """The largest absolute value of each output."""
        return {name: _sizes(output).max().item() for name, output in self.outputs.items()}

    def select(self, members: list[int]) -> "Rows":
        """Some of the examples, in the given order."""
        return Rows(_members(self.inputs, members), {name: _members(output, members) for name, output in self.outputs.items()})


def rounding_unit(tensors: Sequence[Tensor]) -> float:
    """The largest rounding unit of their types; 0 for whole numbers.

    >>> rounding_unit([torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16), torch.tensor([3])])
    0.0078125
    """
    return max([torch.finfo(tensor.dtype).eps for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()], default=0.0)


def check_chunk(run: Run, rows: Rows, eps: float) -> None:
    """Run a few examples again, in another order and number, and some by themselves.

    Args:
        run: the pass.
        rows: the examples of a chunk.
        eps: the rounding unit of the pass.

    Raises:
        ReplicationError: an example gets other rows.

    >>> x = torch.tensor([[1.0], [-2.0], [3.0]])
    >>> check_chunk(lambda inputs: {"layer": inputs + 1}, Rows.of(x, {"layer": x + 1}), 1e-7)
    """
    n, largest, sizes = rows.n, rows.largest, rows.sizes
    spread = torch.linspace(n - 1, 0, _FEW).long().tolist() if n > _FEW else [*range(n - 1, -1, -1), 0]
    _check(run, rows.select(spread if largest in spread else [*spread, largest]), sizes, eps)
    for member in list(dict.fromkeys([largest, *rows.unusual, 0, n - 1, n // 2]))[:_ALONE] if n > 1 else []:
        _check(run, rows.select([member]), sizes, eps, alone=True)


def check_padding(run: Run, rows: Rows, alone: Iterable[tuple[int, Tree]], eps: float) -> None:
    """Compare rows of padded examples with those that each gets in a batch of its own; arguments and errors as of ``check_chunk``.

    Args:
        alone: places in ``rows`` with the same examples, padded less or not at all.

    >>> x = torch.tensor([[1.0], [-2.0]])
    >>> check_padding(lambda inputs: {"layer": inputs}, Rows.of(x, {"layer": x}), [(1, x[1:])], 1e-7)
    """
    for place, inputs in alone:
        padded = rows.select([place])
        if [tensor.shape for tensor in tensors_of(inputs)] == [tensor.shape for tensor in tensors_of(padded.inputs)]:
            continue
        for name, output in run(inputs).items():
            expected = padded.outputs[name].flatten(0, 1)
            shared = tuple(slice(0, min(sizes)) for sizes in zip(output.shape, expected.shape, strict=False))
            _compare(name, output[shared], expected[shared], rows.sizes[name], eps)


class Sample:
    """The examples with the largest outputs and the smallest inputs of some chunks, spread over the whole set.

    >>> sample, x = Sample(), torch.tensor([[1.0], [-2.0]])
    >>> for _ in range(40):
    ...     sample.add(Rows.of(x, {"layer": x}))
    >>> sample.check(lambda inputs: {"layer": inputs}, 1e-7)
    >>> len(sample.kept)
    10
    """

    def __init__(self) -> None:
        self.kept: list[Rows] = []
        self._seen, self._every = 0, 1

    def add(self, rows: Rows) -> None:
        """Keep a few examples of every chunk, or of every second, fourth and so on where there are many."""
        if self._seen % self._every == 0:
            self.kept.append(rows.select(list(dict.fromkeys([rows.largest, *rows.unusual[:2]]))))
        if len(self.kept) == 2 * _FEW:
            self.kept, self._every = self.kept[::2], 2 * self._every
        self._seen += 1

    def check(self, run: Run, eps: float) -> None:
        """Run the examples together and alone, which so far had the company of their chunks; arguments and errors as of ``check_chunk``."""
        if len(self.kept) < 2:
            return
        for rows in self.kept:
            for place in range(1, rows.n):
                _check(run, rows.select([place]), rows.sizes, eps, alone=True)
        try:
            together = join([(rows.inputs, rows.outputs) for rows in self.kept])
        except ReplicationError:  # chunks padded to different lengths
            return
        rows = Rows(*together)
        _check(run, rows, rows.sizes, eps)


def _check(run: Run, rows: Rows, sizes: Mapping[str, float], eps: float, *, alone: bool = False) -> None:
    """Run the examples again. A network may fail on an example alone, since it squeezes the first axis away, say."""
    try:
        again = run(rows.inputs)
    except Exception:
        if alone:
            return
        raise
    for name, output in rows.outputs.items():
        repeated, expected = again[name], output.flatten(0, 1)
        if repeated.shape == expected.shape:
            _compare(name, repeated, expected, sizes[name], eps)
        elif not alone:
            raise ReplicationError(
                f"Module '{name}' gives {output.shape[1]} rows of shape {tuple(output.shape[2:])} for an example and then, for {rows.n} "
                f"examples, shape {tuple(repeated.shape)}: its first axis is not the examples (time first?), so give a view that puts "
                "them there."
            )


def _compare(name: str, repeated: Tensor, expected: Tensor, size: float, eps: float) -> None:
    kind = torch.complex128 if expected.is_complex() else torch.float64
    difference = _largest((repeated.to(kind) - expected.to(kind)).abs())
    eps = max(eps, rounding_unit([expected]))
    accelerated = expected.device.type != "cpu" and eps > torch.finfo(torch.float64).eps
    if difference > max(eps**0.5, 16 * eps, _ACCELERATED if accelerated else 0.0) * size:
        raise ReplicationError(
            f"Module '{name}' gives an example other values among other examples (they differ by {difference:.2g} of {size:.2g}): its "
            "rows are not the examples in order, examples interact (batch statistics), or the pass is random; choose another module."
        )


def _largest(values: Tensor) -> float:
    """The largest finite value; 0 of nothing."""
    return values.nan_to_num(0, 0, 0).max().item() if values.numel() else 0.0


def _sizes(output: Tensor) -> Tensor:
    """The largest absolute value of each example ``[n]``, 0 where it is not finite."""
    if not (output.is_floating_point() or output.is_complex()):
        output = output.double()
    if not output.numel():
        return torch.zeros(len(output), dtype=torch.float64)
    return torch.linalg.vector_norm(output.flatten(1), ord=float("inf"), dim=1).double().nan_to_num(0, 0, 0).cpu()


def _members(tree: Tree, members: list[int]) -> Tree:
    return map_tensors(lambda tensor: tensor[torch.tensor(members).to(tensor.device)], tree)
