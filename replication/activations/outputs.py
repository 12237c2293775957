"""Outputs of the layers of a network on a fixed set of examples, by the names of its modules.

What a hook sees is proved before it is trusted: a few examples are run again, alone and among others, and each has to get the same rows.
"""

import contextlib
import functools
import numbers
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from replication.activations.company import Rows, Run, Sample, check_chunk, check_padding, rounding_unit
from replication.activations.names import Layer, Wanted, resolve
from replication.activations.reading import chunks, padded_examples
from replication.errors import ReplicationError
from replication.objective.arithmetic import reason_of
from replication.objective.coupling import REPETITIONS, drawing
from replication.objective.inputs import Tree, call, join, map_tensors, n_examples, take, tensors_of
from replication.objective.networks import unwrapped

View = Callable[[Tensor], Tensor]

_TRIAL = 8  # examples on which the forward pass is tried
_PADDED = 16  # examples that are read in batches of their own


def layer_outputs(
    model: nn.Module, inputs: Any, layers: Layer | Sequence[Layer], *, view: View | None = None, chunk: int = 256
) -> dict[str, Tensor]:
    """Outputs of the named modules on ``inputs``, in evaluation mode: no dropout, and batch norm with running statistics.

    The model's hooks and modes are the same afterwards, also after an exception. Outputs are copies: a later in-place operation does not
    change them. A result that no module returns (a residual addition) has no name here; take the output of the module around it.

    A few examples are run a second time, alone and among others. If an example then gets other rows, an error is raised: the first axis is
    not the examples (``[time, batch, ...]``), examples interact, or the forward pass is random. The model computes in its own types, also
    inside ``torch.autocast``, and on copies of the inputs.

    Args:
        model: any network; ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` are unwrapped.
        inputs: a tensor or array ``[n_examples, ...]``, a tuple of them (passed by position), a dict (by keyword); or a ``Dataset`` or
            ``DataLoader`` of inputs, of pairs (inputs, labels) or of dicts, which is read chunk by chunk in the order of its data set.
            Labels are left out. Everything is moved to the model's device, floating-point inputs to its type; whole numbers stay.
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
            inputs, inputs that the network cannot run on or that a data set gives differently when read twice, or TorchScript.

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
    resolved = resolve(model, [layers] if isinstance(layers, str | nn.Module) else list(layers))
    wanted = list({each.name: each for each in resolved}.values())
    if not isinstance(chunk, numbers.Integral) or chunk < 1:
        raise ReplicationError(f"Activations in chunks of {chunk!r} were asked for; allowed: one or more, a whole number.")
    run: Run | None = None
    sample, eps = Sample(), 0.0
    for part in chunks(model, inputs, chunk):
        first = run is None
        if run is None:
            run = functools.partial(_outputs, model, wanted=wanted, view=view, needs_gradient=_needs_gradient(model, part))
            eps = rounding_unit([*model.parameters(), *tensors_of(part)])
        outputs = run(part)
        rows = Rows.of(part, outputs)
        if first:
            check = functools.partial(check_chunk, run, rows, eps)
            _, draws = drawing(check)
            for _ in range(REPETITIONS if draws else 0):
                check()
            check_padding(run, rows, padded_examples(model, inputs, min(rows.n, _PADDED)), eps)
        sample.add(rows)
        yield outputs
    if run is None:
        raise ReplicationError("Activations of 0 inputs were asked for; give one or more.")
    sample.check(run, eps)


def _needs_gradient(model: nn.Module, part: Tree) -> bool:
    """Whether the forward pass takes derivatives itself, which ``no_grad`` forbids."""
    try:
        _run(model, take(part, slice(0, _TRIAL)), needs_gradient=False)
    except ReplicationError as error:
        if "does not require grad" not in str(error):
            raise
        return True
    return False


def _run(model: nn.Module, part: Tree, needs_gradient: bool) -> None:
    """One pass on copies of the inputs, which the forward pass may change in place.

    Raises:
        ReplicationError: the forward pass fails.
    """
    try:
        with _as_evaluated(model, needs_gradient):
            call(model, map_tensors(torch.clone, part))
    except ReplicationError:
        raise
    except Exception as error:  # a user's forward method may raise anything
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_of(part))
        raise ReplicationError(
            f"The network cannot run on these inputs, a {type(part).__name__} with shapes {shapes} ({reason_of(error)}); give what its "
            "forward method takes; a data set gives inputs and, as its last entry or under the name 'labels', the labels."
        ) from error


def _outputs(model: nn.Module, part: Tree, *, wanted: Sequence[Wanted], view: View | None, needs_gradient: bool) -> dict[str, Tensor]:
    """The outputs of one pass."""
    outputs: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()  # of the module of each output

    def hook(each: Wanted, _module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[each.name] += 1
        if each.call in (None, calls[each.name]):
            copied = each.tensor_of(output).detach().clone()
            outputs[each.name] = copied if view is None else _viewed(each.name, view, copied)

    handles = [each.module.register_forward_hook(functools.partial(hook, each)) for each in wanted]
    try:
        _run(model, part, needs_gradient)
    finally:
        for handle in handles:
            handle.remove()
    for each in wanted:
        each.check_calls(calls[each.name])
        _check_rows(each.name, outputs[each.name], n_examples(part), view)
    return {each.name: outputs[each.name] for each in wanted}


def _viewed(name: str, view: View, output: Tensor) -> Tensor:
    try:
        return view(output)
    except Exception as error:
        raise ReplicationError(f"The view fails on the output of '{name}', shape {tuple(output.shape)}: {reason_of(error)}.") from error


@contextlib.contextmanager
def _as_evaluated(model: nn.Module, needs_gradient: bool) -> Iterator[None]:
    """Evaluation mode, in the model's own types, with no compiled code and no fused attention: both pass over modules inside of them."""
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    devices = {"cpu"} | {parameter.device.type for parameter in model.parameters()}
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with contextlib.ExitStack() as stack:
            for device in filter(torch.amp.is_autocast_available, devices):
                stack.enter_context(torch.autocast(device, enabled=False))
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(torch.set_grad_enabled(needs_gradient))
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
