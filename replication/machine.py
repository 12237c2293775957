"""Settings of the process that make the arithmetic fast and keep it exact."""

import contextlib
import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def prepare(threads: int = 1) -> torch.device:
    """Set the number of threads and the allocator, forbid TF32, and return the device to compute on.

    glibc otherwise gives every large tensor back to the system and takes page faults for the next one: an elementwise
    backward pass of MNIST-FC took five times as long in a profile (docs/performance.md).
    """
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    with contextlib.suppress(OSError, AttributeError):  # no glibc, no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.mallopt(_M_TOP_PAD, 1 << 26)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Within the context, float32 numbers below 1.2e-38 count as zero, where the processor can do that; afterwards as before.

    A processor takes some hundred cycles for each arithmetic operation on such a number. Adam's moments of a fitted network decay into that
    range: a step of Stiffness' network on MNIST took 9.6 ms at epoch 40 without this context and 3.4 ms with it (docs/performance.md).

    Example:
        >>> small = torch.tensor(1e-39)
        >>> with subnormals_as_zero():
        ...     inside = float(small * 1)
        >>> float(small * 1) > 0.0
        True
    """
    was_on = bool(torch.tensor(1e-39) * 1 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_on)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; a processor without them was seven to ten times slower in it than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of PyTorch do not tell
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def describe(device: torch.device) -> str:
    """The device in words, for records."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} thread(s)"


def reporter(what: str) -> Callable[[int, int], None]:
    """A progress callback (done, total): a bar on a terminal, a plain line every ten per cent or half minute in a log."""
    if sys.stderr.isatty():
        from tqdm import tqdm  # only where somebody watches

        bar = tqdm(desc=what, leave=False)

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return show
    start = last = time.monotonic()
    reported = 0

    def log(done: int, total: int) -> None:
        nonlocal last, reported
        now = time.monotonic()
        if done == total or done * 10 // total > reported or now - last > 30:
            print(f"{what}: {done}/{total}, {now - start:.0f} s", file=sys.stderr, flush=True)
            last, reported = now, done * 10 // total

    return log
