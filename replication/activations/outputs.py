"""Outputs of the layers of a network on a fixed set of examples, by the names of its modules.

What a hook sees is proved before it is trusted: a few examples are run again among others, and each has to get the same rows.
"""

import contextlib
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from replication.activations.names import Layer, Wanted, resolve
from replication.activations.reading import chunks
from replication.errors import ReplicationError
from replication.objective.coupling import REPETITIONS, drawing
from replication.objective.inputs import Tree, call, join, map_tensors, n_examples, take
from replication.objective.networks import unwrapped

View = Callable[[Tensor], Tensor]

_TRIAL = 8  # examples that are run again
_DIFFERENCE = 1e-3  # that an example may show among others, relative to the largest output: rounding, in float32


def layer_outputs(
    model: nn.Module, inputs: Any, layers: Layer | Sequence[Layer], *, view: View | None = None, chunk: int = 256
) -> dict[str, Tensor]:
    """Outputs of the named modules on ``inputs``, in evaluation mode: no dropout, and batch norm with running statistics.

    The model's hooks and modes are the same afterwards, also after an exception. Outputs are copies: a later in-place operation does not
    change them. A result that no module returns (a residual addition) has no name here; take the output of the module around it.

    A few examples are run a second time, among others. If an example then gets other rows, it is an error: the first axis is not the
    examples (``[time, batch, ...]``), examples interact, or the forward pass is random.

    Args:
        model: any network; ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are unwrapped.
        inputs: a tensor or array ``[n_examples, ...]``, a tuple of them (passed by position), a dict (by keyword); or a ``Dataset`` or
            ``DataLoader`` of inputs, of pairs (inputs, labels) or of dicts, which is read chunk by chunk in the order of its data set.
            Labels are left out. All is moved to the model's device, floating-point inputs to its type; whole numbers stay.
        layers: names as in ``model.named_modules()``, or modules. Of a module that returns a tuple (an LSTM) the first tensor is taken;
            ``"lstm[1][0]"`` names another part, ``"encoder[pooler_output]"`` an entry of a dict or dataclass. Of a module that runs
            several times ``"relu#2"`` names the second call. Packed sequences are padded with zeros, ``[n_examples, time, ...]``.
        view: applied to each chunk's output ``[chunk, ...]``, for example ``svcca.spatial_mean``, so that large maps are never kept whole.
            It may give several rows for each example. A time-major output needs one that puts the examples first.
        chunk: examples at a time.

    Returns:
        By name, in the order of ``layers``: ``[n_examples, ...]`` on the model's device, in its type.

    Raises:
        ReplicationError: no such module or part, a module that runs more than once or not at all, rows that are not the examples, no
            inputs, or TorchScript.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> {name: tuple(output.shape) for name, output in layer_outputs(model, torch.zeros(5, 4), ["1", "2"]).items()}
    {'1': (5, 3), '2': (5, 2)}
    """
    return join(list(layer_batches(model, inputs, layers, view=view, chunk=chunk)))


def layer_batches(
    model: nn.Module, inputs: Any, layers: Layer | Sequence[Layer], *, view: View | None = None, chunk: int = 256
) -> Iterator[dict[str, Tensor]]:
    """As ``layer_outputs``, but one chunk of examples after the other, for example for ``svcca.minibatch_cka``.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> [len(batch["1"]) for batch in layer_batches(model, torch.zeros(5, 4), ["1"], chunk=2)]
    [2, 2, 1]
    """
    model = unwrapped(model)
    wanted = resolve(model, [layers] if isinstance(layers, str | nn.Module) else list(layers))
    if chunk < 1:
        raise ReplicationError(f"Activations in chunks of {chunk} were asked for; allowed: one or more.")
    needs_gradient = False
    number = 0
    for number, part in enumerate(chunks(model, inputs, chunk), start=1):
        if number == 1:
            needs_gradient = _needs_gradient(model, part)
        outputs = _outputs(model, part, wanted, view, needs_gradient)
        if number == 1:
            check = functools.partial(_check_company, model, part, wanted, view, needs_gradient, outputs)
            _, draws = drawing(check)
            for _ in range(REPETITIONS if draws else 0):
                check()
        yield outputs
    if not number:
        raise ReplicationError("Activations of 0 inputs were asked for; give one or more.")


def _needs_gradient(model: nn.Module, part: Tree) -> bool:
    """Whether the forward pass takes derivatives itself, which ``no_grad`` forbids."""
    few = take(part, slice(0, _TRIAL))
    try:
        with _as_evaluated(model, needs_gradient=False):
            call(model, few)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        return True
    return False


def _outputs(model: nn.Module, part: Tree, wanted: Sequence[Wanted], view: View | None, needs_gradient: bool) -> dict[str, Tensor]:
    """The outputs of one pass."""
    outputs: dict[str, Tensor] = {}
    calls: Counter[int] = Counter()
    by_module: dict[nn.Module, list[Wanted]] = defaultdict(list)
    for each in wanted:
        by_module[each.module].append(each)

    def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[id(module)] += 1
        for each in by_module[module]:
            if each.call in (None, calls[id(module)]):
                copied = each.tensor_of(output).detach().clone()
                outputs[each.name] = copied if view is None else view(copied)

    handles = [module.register_forward_hook(hook) for module in by_module]
    try:
        with _as_evaluated(model, needs_gradient):
            call(model, part)
    finally:
        for handle in handles:
            handle.remove()
    for each in wanted:
        each.check_calls(calls[id(each.module)])
        _check_rows(each.name, outputs[each.name], n_examples(part), view)
    return {each.name: outputs[each.name] for each in wanted}


@contextlib.contextmanager
def _as_evaluated(model: nn.Module, needs_gradient: bool) -> Iterator[None]:
    """Evaluation mode, no compiled code and no fused attention: both pass over modules inside of them."""
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"), torch.set_grad_enabled(needs_gradient):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes:
            module.training = mode


def _check_rows(name: str, output: Any, n: int, view: View | None) -> None:
    if not isinstance(output, Tensor) or not output.dim() or not len(output) or (len(output) % n if view else len(output) != n):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ReplicationError(
            f"Module '{name}' gives shape {shape} for {n} examples; allowed: examples first, so give a view that puts them there, such as "
            "view=lambda output: output.transpose(0, 1)."
        )


def _check_company(
    model: nn.Module, part: Tree, wanted: Sequence[Wanted], view: View | None, needs_gradient: bool, outputs: Mapping[str, Tensor]
) -> None:
    """Some examples in another order and number: each must get the rows that it had."""
    n = n_examples(part)
    members = torch.linspace(n - 1, 0, _TRIAL).long() if n > _TRIAL else torch.cat([torch.arange(n - 1, -1, -1), torch.tensor([0])])
    again = _outputs(model, map_tensors(lambda tensor: tensor[members.to(tensor.device)], part), wanted, view, needs_gradient)
    for name, output in outputs.items():
        repeated, whole = again[name], output.unflatten(0, (n, -1))
        if len(repeated) * n != len(output) * len(members) or repeated.shape[1:] != output.shape[1:]:
            raise ReplicationError(
                f"Module '{name}' gives shape {tuple(output.shape)} for {n} examples and {tuple(repeated.shape)} for {len(members)}: its "
                "first axis is not the examples (time first?), so give a view that puts them there."
            )
        expected = whole[members.to(whole.device)].flatten(0, 1)
        kind = torch.complex128 if expected.is_complex() else torch.float64
        difference = (repeated.to(kind) - expected.to(kind)).abs().nan_to_num(0, 0, 0).max().item()
        size = expected.to(kind).abs().nan_to_num(0, 0, 0).max().item()
        eps = torch.finfo(output.dtype).eps if output.is_floating_point() else 0.0
        if difference > max(_DIFFERENCE, 16 * eps) * size:
            raise ReplicationError(
                f"Module '{name}' gives an example other values among other examples (they differ by {difference:.2g} of {size:.2g}): its "
                "rows are not the examples in order, examples interact (batch statistics), or the pass is random; choose another module."
            )
