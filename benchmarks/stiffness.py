"""Gram matrices of per-example gradients against the usual ways, all measured in one run, one thread.

Run: python benchmarks/stiffness.py [NAME ...]  (random images, since the arithmetic does not depend on them).

loop  torch.autograd.grad for each example on its own (100 examples, scaled), then the products
vmap  torch.func.vmap(grad), 64 examples at a time, one gradient matrix per parameter, then the products
ours  stiffness.gram: all layers and the total

Every case runs in a process of its own, so that its peak memory is its own; seconds are of the processor, because other work on the
machine disturbs them less, medians of ``REPEATS`` rounds in which the ways take turns. Then: signs that differ between float32 and float64
as a network of linear layers fits scikit-learn's digits.
"""

import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from ratios import QUICK, keep
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from replication import machine, models, stiffness
from replication.files.provenance import processor

CASES = [("stiffness_fc", 1, 28), ("stiffness_cnn", 3, 32), ("stiffness_resnet20", 3, 32)]
SIZES = [(torch.float32, 64)] if QUICK else [(torch.float32, 500), (torch.float32, 1000), (torch.float64, 500)]
LOOPED, CHUNK, REPEATS = 10 if QUICK else 100, 64, int(os.environ.get("REPEATS", "1" if QUICK else "3"))


def example_gradients_by_loop(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """A gradient matrix ``[n, ...]`` per parameter."""
    parameters = list(model.parameters())
    rows = [
        torch.autograd.grad(F.cross_entropy(model(image[None]), label[None]), parameters)
        for image, label in zip(images, labels, strict=True)
    ]
    return [torch.stack([row[number].flatten() for row in rows]) for number in range(len(parameters))]


def example_gradients_by_vmap(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, weights, (image[None],)), label[None])

    return [g.flatten(1) for g in vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=CHUNK)(parameters, images, labels).values()]


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def case(connection: Connection, way: str, name: str, channels: int, side: int, dtype: torch.dtype, n: int) -> None:
    """Measures once after a small warm-up; sends seconds and peak memory in GiB."""
    machine.prepare(threads=1)
    generator = torch.Generator().manual_seed(0)
    model = models.build(name, classes=10, channels=channels, seed=0).eval().to(dtype)
    images, labels = torch.randn(n, channels, side, side, generator=generator, dtype=dtype), torch.randint(0, 10, (n,), generator=generator)

    def products(m: int) -> Tensor:
        return sum((g @ g.T for g in example_gradients_by_vmap(model, images[:m], labels[:m])), torch.zeros(()))

    if way == "ours":
        stiffness.gram(model, images[:32], labels[:32], dtype=dtype)
        taken = seconds(lambda: stiffness.gram(model, images, labels, dtype=dtype))
    elif way == "vmap":
        products(32)
        taken = seconds(lambda: products(n))
    else:
        example_gradients_by_loop(model, images[:8], labels[:8])
        taken = seconds(lambda: example_gradients_by_loop(model, images[:LOOPED], labels[:LOOPED])) * n / LOOPED
        matrix = torch.randn(n, sum(p.numel() for p in model.parameters()), dtype=dtype)
        taken += seconds(lambda: matrix @ matrix.T)
    connection.send((taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def measured(way: str, *arguments: object) -> tuple[float, float]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=case, args=(there, way, *arguments))
    process.start()
    result: tuple[float, float] = here.recv()
    process.join()
    return result


def speed(chosen: list[str]) -> None:
    print(f"{'network':>20} {'type':>8} {'n':>5} {'loop':>7} {'vmap':>7} {'ours':>7}  loop/ours vmap/ours   peak GiB: loop vmap ours")
    for name, channels, side in CASES:
        for dtype, n in SIZES if name in chosen else []:
            rounds = [[measured(way, name, channels, side, dtype, n) for way in ("loop", "vmap", "ours")] for _ in range(REPEATS)]
            times = [statistics.median(results[way][0] for results in rounds) for way in range(3)]
            peaks = [max(results[way][1] for results in rounds) for way in range(3)]
            row = " ".join(f"{taken:7.2f}" for taken in times)
            ratios = f"{times[0] / times[2]:8.1f}x {times[1] / times[2]:8.1f}x"
            print(f"{name:>20} {str(dtype)[6:]:>8} {n:5} {row}  {ratios} {'':12}", " ".join(f"{peak:5.2f}" for peak in peaks), flush=True)
            case = f"Gram matrix, {name}, {n:,} examples, {str(dtype)[6:]}"
            keep("Stiffness", case, {"torch.func.vmap": times[1] / times[2], "loop over examples": times[0] / times[2]})


def flips() -> None:
    """Signs of the total that differ from float64, while 500 digits are fitted with Adam at 1e-3 in batches of 32."""
    digits = load_digits()
    images = torch.tensor(digits.images[:500, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target[:500])
    model = models.build("stiffness_fc", classes=10, channels=1, seed=0, image_size=8)
    optimizer, generator = torch.optim.Adam(model.parameters(), lr=1e-3), torch.Generator().manual_seed(0)
    print("loss      signs that differ from float64: gram in float32, loop in float32")
    bounds = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]
    for _ in range(400):
        with torch.no_grad():
            loss = F.cross_entropy(model(images), labels).item()
        if bounds and loss < bounds[0]:
            bounds = [bound for bound in bounds if bound <= loss]
            exact, rounded = (
                stiffness.gram(model, images, labels, dtype=dtype)["total"].sign() for dtype in (torch.float64, torch.float32)
            )
            plain = sum((g @ g.T for g in example_gradients_by_loop(model, images, labels)), torch.zeros(())).sign()
            off = ~torch.eye(500, dtype=torch.bool)
            print(f"{loss:8.1e} {(exact != rounded)[off].double().mean():8.2%} {(exact != plain)[off].double().mean():8.2%}", flush=True)
        for members in torch.randperm(500, generator=generator).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(images[members]), labels[members]).backward()
            optimizer.step()


def main() -> None:
    device = machine.prepare(threads=1)
    print(f"{processor()}, {machine.describe(device)}, torch {torch.__version__}; medians of {REPEATS}")
    speed(sys.argv[1:] or [name for name, _, _ in CASES])  # first: a process starts with the peak memory of the one that started it
    if not QUICK:
        flips()


if __name__ == "__main__":
    main()
