"""Speed of loss surfaces and of extreme eigenvalues, beside the tools people use, all measured in one run.

Run: python benchmarks/landscape.py [network ...]  The peers are compared where they are installed: `pip install loss-landscapes pyhessian`.
Surfaces: random images of CIFAR's size, since the arithmetic does not depend on them; eigenvalues and the error of bfloat16: a
ResNet-20 trained for a minute on scikit-learn's digits. The peer runs in a process of its own without our allocator settings.
"""

import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from torch import Tensor, nn

from replication import curvature, evaluation, landscape, machine, models, records
from replication.objective import Objective

N = 1000
REPEATS = 3
NETS = ("resnet20", "resnet56", "resnet56_noshort", "resnet110", "vgg9", "densenet121")
GRID = 2  # points along each axis of a timed surface


def seconds(work: Callable[[], object]) -> float:
    """Core seconds: the process has one thread, and others may share the machine."""
    start = time.process_time()
    work()
    return time.process_time() - start


def examples(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.randint(0, 10, (n,), generator=generator)


def installed(package: str) -> bool:
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"({package} is not installed, so it is left out: pip install loss-landscapes pyhessian)")
    return found


def peer_surface(connection: Connection, name: str, n: int) -> None:
    """One surface by loss-landscapes for every message; its directions are not filter-normalised, which would take minutes in Python loops."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    torch.set_num_threads(1)
    model = models.build(name, classes=10, channels=3, seed=0).eval()
    metric = Loss(nn.CrossEntropyLoss(), *examples(n))
    while connection.recv():
        connection.send(seconds(lambda: loss_landscapes.random_plane(model, metric, 100, GRID, normalization=None)))


def forward_flops(model: nn.Module) -> int:
    """Of convolutions and linear layers, per image: 2 per multiplication and addition."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        total += 2 * output[0].numel() * module.weight[0].numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0  # type: ignore[union-attr, operator]

    for module in model.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        model(examples(1)[0])
    return total


def surfaces(names: tuple[str, ...]) -> None:
    peer = installed("loss_landscapes")
    square = torch.rand(2048, 2048, generator=torch.Generator().manual_seed(0))
    print(
        f"{'network':>17} {'images':>6} {'plain':>7} {'peer':>7} {'float32':>8} {'bfloat16':>8}  seconds a point; of ceiling; peer : ours"
    )
    for name in names:
        n = N if name in ("resnet20", "resnet56", "resnet56_noshort") else N // 4
        model = models.build(name, classes=10, channels=3, seed=0).eval()
        x, y = (landscape.random_direction(model, landscape.axis_generator(0, axis)) for axis in range(2))
        works: dict[str, Callable[[], object]] = {}
        for label, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            objective = Objective(model, *examples(n), dtype=dtype)
            objective.evaluate(objective.parameters())
            grid = np.linspace(-0.01, 0.01, GRID)
            works[label] = lambda objective=objective: landscape.surface(objective, x, y, grid, grid)
        if peer:
            here, there = multiprocessing.get_context("spawn").Pipe()
            process = multiprocessing.get_context("spawn").Process(target=peer_surface, args=(there, name, n))
            process.start()
        times: dict[str, list[float]] = {"ceiling": [], "plain": [], "peer": [], **{label: [] for label in works}}
        images = examples(n)[0]
        for _ in range(REPEATS + 1):  # everything beside everything, since the core's own speed drifts
            times["ceiling"].append(2 * 2048**3 / min(seconds(lambda: square @ square) for _ in range(3)))
            with torch.inference_mode():
                times["plain"].append(seconds(lambda: [model(chunk) for chunk in images.split(128)]))
            for label, work in works.items():
                times[label].append(seconds(work) / GRID**2)
            if peer:
                here.send(True)
                times["peer"].append(here.recv() / GRID**2)
        if peer:
            here.send(False)
            process.join()
        middle = {label: statistics.median(values[1:]) if values else float("nan") for label, values in times.items()}
        share = n * forward_flops(model) / middle["float32"] / middle["ceiling"]
        ratios = f"float32 {middle['peer'] / middle['float32']:.2f}, bfloat16 {middle['peer'] / middle['bfloat16']:.2f}"
        columns = f"{middle['plain']:7.2f} {middle['peer']:7.2f} {middle['float32']:8.2f} {middle['bfloat16']:8.2f}"
        print(f"{name:>17} {n:6} {columns}  {share:.0%}; {ratios}; plain : ours {middle['plain'] / middle['float32']:.2f}", flush=True)


def chunks() -> None:
    """Where the evaluator's chunk comes from: elements of the largest activation in a chunk."""
    model = models.build("resnet20", classes=10, channels=3, seed=0).eval()
    chosen = evaluation._CHUNK_ELEMENTS["cpu"]
    for exponent in range(18, 25, 2):
        evaluation._CHUNK_ELEMENTS["cpu"] = 2**exponent
        objective = Objective(model, *examples(N))
        theta = objective.parameters()
        objective.evaluate(theta)
        taken = statistics.median(seconds(lambda o=objective, t=theta: o.evaluate(t)) for _ in range(REPEATS))
        print(f"chunk of 2^{exponent} elements: {taken:.2f} s a point")
    evaluation._CHUNK_ELEMENTS["cpu"] = chosen


def digits_resnet20() -> tuple[nn.Module, Tensor, Tensor]:
    """Trained on 1,000 digits, resized to 32 x 32 and coloured grey."""
    data = load_digits()
    images = F.interpolate(torch.from_numpy(data.images[:N]).float()[:, None] / 8 - 1, size=32).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(data.target[:N])
    model = models.build("resnet20", classes=10, channels=3, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 120)
        batch = torch.randint(0, N, (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model.eval(), images, labels


def precision(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Errors of float32 and bfloat16 on a surface, beside the standard error of the mean over these examples."""
    x, y = (landscape.random_direction(model, landscape.axis_generator(0, axis)) for axis in range(2))
    tables, n, grid = {}, 250, np.linspace(-0.5, 0.5, 5)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        objective = Objective(model, images[:n], labels[:n], dtype=dtype)
        tables[dtype] = landscape.surface(objective, x, y, grid, grid)
    exact = tables[torch.float64]
    centre, error = exact["loss"][len(exact) // 2], (exact["standard_error"] / exact["loss"])
    print(f"loss at the centre {centre:.2g}; relative standard error over {n} images: median {error.median():.1%}")
    for dtype in (torch.float32, torch.bfloat16):
        difference = (tables[dtype]["loss"] - exact["loss"]).abs()
        share = difference / exact["standard_error"]
        row = f"relative error median {(difference / exact['loss']).median():.1e}, largest {(difference / exact['loss']).max():.1e}"
        print(f"{dtype!s:>15}: {row}; of the standard error: median {share.median():.2g}, largest {share.max():.2g}")


def eigenvalues(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    n, tolerance = 100, 1e-2
    objective = Objective(model, images[:n], labels[:n])
    theta, used = objective.parameters(), 0
    reference = curvature.extremes(objective, tolerance=1e-5)

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal used
        used += 1
        return objective.hessian_vector_product(theta, torch.from_numpy(vector.ravel().copy())).numpy()

    def report(label: str, taken: float, products: int | str, smallest: float, largest: float) -> None:
        errors = f"{abs(smallest / reference.smallest - 1):.1e} and {abs(largest / reference.largest - 1):.1e}"
        print(f"{label:>28}: {taken:6.1f} s, {products} products, smallest {smallest:.4g}, largest {largest:.4g}, relative errors {errors}")

    start = time.process_time()
    found = curvature.extremes(objective, tolerance=tolerance)
    report("one Krylov run, both ends", time.process_time() - start, found.products, found.smallest, found.largest)
    start = time.process_time()
    operator = LinearOperator((len(theta), len(theta)), matvec=product, dtype=np.float64)
    vector = np.random.default_rng(0).standard_normal(len(theta))
    ends = [float(eigsh(operator, 1, which=end, tol=tolerance, v0=vector, return_eigenvectors=False)[0]) for end in ("SA", "LA")]
    report("SciPy's eigsh, twice", time.process_time() - start, used, *ends)
    if installed("pyhessian"):
        from pyhessian import hessian

        start = time.process_time()
        peer = hessian(model, nn.CrossEntropyLoss(), data=(images[:n], labels[:n]), cuda=False)
        largest = float(peer.eigenvalues(maxIter=100, tol=tolerance, top_n=1)[0][0])
        report("PyHessian, largest alone", time.process_time() - start, "?", float("nan"), largest)


def main() -> None:
    device = machine.prepare(threads=1)
    names = tuple(sys.argv[1:]) or NETS
    print(f"{records.processor()}, {machine.describe(device)}, torch {torch.__version__}; medians of {REPEATS}")
    surfaces(names)
    chunks()
    trained = digits_resnet20()
    precision(*trained)
    eigenvalues(*trained)


if __name__ == "__main__":
    main()
