"""A pretended accelerator: tensors that live on the device "pretended" as far as the code can tell, and are computed on the CPU.

Within ``accelerator()`` every ``device="pretended"`` and ``.to("pretended")`` gives tensors with a tag. As on a GPU, an operation refuses
arguments of both kinds (a CPU tensor without dimensions is allowed, and so are CPU indices), ``.numpy()`` refuses a tagged tensor,
and reading values (``.item()``, ``.tolist()``, ``bool()``, ``.cpu()``) makes the process wait: such places are counted.

Not covered: kernels (every number comes from the CPU's), memory, streams, and operations that have no CUDA implementation.
"""

import contextlib
import traceback
import unittest.mock
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend


class _Module(_DummyBackendModule):
    """What PyTorch asks of a kind of device; it has no random numbers of its own."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.zeros(0, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        pass

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


ACCELERATOR = torch.device("privateuseone", 0)  # "pretended" once ``accelerator`` has named it
PACKAGE = Path(__file__).parents[1] / "replication"
ATEN = torch.ops.aten
WAITS = {ATEN._local_scalar_dense.default, ATEN.is_nonzero.default, ATEN.equal.default, ATEN.nonzero.default, ATEN._unique2.default}
TAKES_CPU_INDICES = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}


class Tagged(Tensor):
    """A tensor that says it is on the accelerator; its values are those of ``inside``, on the CPU."""

    inside: Tensor
    waits: ClassVar[Counter[str]] = Counter()

    @staticmethod
    def __new__(cls, inside: Tensor, requires_grad: bool = False) -> "Tagged":
        """Tag a CPU tensor, which must not be tagged itself."""
        assert type(inside) is Tensor or isinstance(inside, torch.nn.Parameter), type(inside)
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inside.size(),
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            layout=inside.layout,
            device=ACCELERATOR,
            requires_grad=requires_grad,
        )

    def __init__(self, inside: Tensor, requires_grad: bool = False) -> None:
        """Keep the values."""
        self.inside = inside.detach()

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """What ``Module.to`` needs to exchange parameters."""
        return ["inside"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], _: None, size: Any, stride: Any) -> "Tagged":
        """See ``__tensor_flatten__``."""
        return Tagged(inner["inside"])

    def __repr__(self) -> str:  # type: ignore[override]
        """For messages of failing tests."""
        return f"Tagged({self.inside!r})"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Operations that are called outside ``accelerator()``, by the garbage collector of gradients for instance."""
        return _computed(function, args, kwargs or {})


class _Dispatch(TorchDispatchMode):
    """Sees every operation, those that make new tensors too."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU, refuse a mixture, count what waits, and tag the result."""
    if function is ATEN._to_copy.default:
        return _copied(args[0], **kwargs)
    arguments, _ = tree_flatten((args, kwargs))
    makes_new = any(isinstance(value, torch.device) and value.type == ACCELERATOR.type for value in arguments)
    if not makes_new and not any(isinstance(value, Tagged) for value in arguments):
        return function(*args, **kwargs)
    _refuse_mixture(function, args, kwargs)
    if function in WAITS or (function is ATEN.copy_.default and not isinstance(args[0], Tagged)):
        _count_wait(str(function))
    result = function(*tree_map(_untagged, args), **tree_map(_untagged, kwargs))
    return _tagged_result(function, result, args)


def _untagged(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inside if isinstance(value, Tagged) else value


def _copied(tensor: Tensor, **kwargs: Any) -> Tensor:
    """``_to_copy``: between devices, dtypes and layouts."""
    target = torch.device(kwargs.pop("device", None) or tensor.device)
    kwargs.pop("pin_memory", None)
    values = ATEN._to_copy.default(_untagged(tensor), **kwargs)
    if target.type == ACCELERATOR.type:
        return Tagged(values)
    if isinstance(tensor, Tagged):
        _count_wait("to the CPU")
    return values


def _refuse_mixture(function: Any, args: Any, kwargs: Any) -> None:
    if function is ATEN.copy_.default:
        return
    arguments, _ = tree_flatten((args[:1] if function in TAKES_CPU_INDICES else args, kwargs))
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, Tagged) and tensor.dim() > 0]
    if on_cpu and len(on_cpu) < len(tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device: {function} got a tensor {tuple(on_cpu[0].shape)} of the CPU.")


def _tagged_result(function: Any, result: Any, args: Any) -> Any:
    """Operations in place give back the argument itself."""
    written = [argument.alias_info is not None and argument.alias_info.is_write for argument in function._schema.arguments]
    if written and written[0] and isinstance(args[0], Tensor):
        if torch.Tag.inplace_view in function.tags:  # the tag has to change its shape as well
            with no_dispatch():
                function(*args)
        return args[0]
    return tree_map(lambda value: Tagged(value) if type(value) is Tensor else value, result)


def _count_wait(what: str) -> None:
    """Count a place of the package that waits for the accelerator."""
    frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(PACKAGE)]
    where = f"{Path(frames[-1].filename).relative_to(PACKAGE)}:{frames[-1].name}" if frames else "outside the package"
    Tagged.waits[f"{where} ({what})"] += 1


class _Reading(TorchFunctionMode):
    """Reading of values as a GPU has it: NumPy needs a copy, and lists wait."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.numpy, Tensor.__array__) and isinstance(args[0], Tagged):
            raise TypeError(
                "can't convert pretended:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
            )
        if function is Tensor.tolist and isinstance(args[0], Tagged):
            return args[0].cpu().tolist()
        return function(*args, **(kwargs or {}))


def _inference_mode(mode: bool = True) -> contextlib.AbstractContextManager[object]:
    """Tensors of PyTorch's inference mode cannot be tagged."""
    return torch.no_grad() if mode else contextlib.nullcontext()


@contextlib.contextmanager
def accelerator() -> Iterator[Counter[str]]:
    """Within it the device "pretended" exists; gives the places of the package that waited, with how often."""
    Tagged.waits.clear()
    if not hasattr(torch, "pretended"):  # not when this file is imported, since a process cannot forget it again
        _setup_privateuseone_for_python_backend("pretended", backend_module=_Module())
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with unittest.mock.patch("torch.inference_mode", _inference_mode), _Reading(), _Dispatch():
            yield Tagged.waits
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)
