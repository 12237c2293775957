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
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.nn.functional as F
from ratios import QUICK, keep
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from replication import curvature, landscape, machine, models
from replication.files.provenance import processor
from replication.objective import Objective

REPEATS = 1 if QUICK else 3
IMAGES = {"resnet20": 500, "resnet56": 250, "resnet56_noshort": 250, "vgg9": 250, "densenet121": 64}  # at a point
if QUICK:
    IMAGES = dict.fromkeys(IMAGES, 16)
N, STEPS = (100, 5) if QUICK else (1000, 120)  # digits to train on, and for how long
POINTS = 3 if QUICK else 5  # along each axis of the surfaces whose precision is compared
GRID = 2  # points along each axis of a timed surface
# bfloat16 is timed only on a processor with instructions for it
PRECISIONS = (torch.float32, *((torch.bfloat16,) if machine.multiplies_bfloat16(torch.device("cpu")) else ()))


def seconds(work: Callable[[], object]) -> float:
    """Core seconds: the process has one thread, and others may share the machine."""
    start = time.process_time()
    work()
    return time.process_time() - start


def examples(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 3, 32, 32, generator=generator), torch.randint(0, 10, (n,), generator=generator)


def installed(package: str) -> bool:
    available = importlib.util.find_spec(package) is not None
    if not available:
        print(f"({package} is not installed, so it is left out: pip install loss-landscapes pyhessian)")
    return available


def peer_surface(connection: Connection, name: str, n: int) -> None:
    """One surface by loss-landscapes for every message, without its filter normalisation: a Python loop over filters that takes minutes."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    torch.set_num_threads(1)
    model = models.build(name, classes=10, channels=3, seed=0).eval()
    metric = Loss(nn.CrossEntropyLoss(), *examples(n))
    while connection.recv():
        connection.send(seconds(partial(loss_landscapes.random_plane, model, metric, 100, GRID, normalization=None)))


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
    print("core seconds a point of a surface; share of the matrix product's speed; how many times as long the others take")
    for name in names:
        middle = surface_times(name, IMAGES[name], peer)
        flops = IMAGES[name] * forward_flops(models.build(name, classes=10, channels=3, seed=0).eval())
        columns = ", ".join(f"{label} {value:.2f}" for label, value in middle.items() if label != "ceiling")
        compared = {"loss-landscapes 3.0.6": "peer", "plain forward pass": "plain"} if peer else {"plain forward pass": "plain"}
        for label in (str(dtype)[6:] for dtype in PRECISIONS):
            ratios = {against: middle[column] / middle[label] for against, column in compared.items()}
            keep("Loss surface", f"a point, {name}, {label}", ratios)
            columns += "".join(f"; {against} : {label} {ratio:.2f}" for against, ratio in ratios.items())
        print(f"{name}, {IMAGES[name]} images: {columns}; {flops / middle['float32'] / middle['ceiling']:.0%} of the ceiling", flush=True)


def surface_times(name: str, n: int, peer: bool) -> dict[str, float]:
    """Medians: the ceiling in flops a second; plain is a forward pass in inference mode, 128 contiguous NCHW images at a time."""
    model = models.build(name, classes=10, channels=3, seed=0).eval()
    images, labels = examples(n)
    x, y = (landscape.random_direction(model, landscape.axis_generator(0, axis)) for axis in range(2))
    grid, square = np.linspace(-0.01, 0.01, GRID), torch.rand(2048, 2048, generator=torch.Generator().manual_seed(0))
    objectives = {str(dtype)[6:]: Objective(model, images, labels, dtype=dtype) for dtype in PRECISIONS}
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=peer_surface, args=(there, name, n))
    if peer:
        process.start()
    times: dict[str, list[float]] = {label: [] for label in ("ceiling", "plain", "peer", *objectives)}
    for _ in range(REPEATS + 1):  # all in turn, since the speed of the core drifts; the first round warms up
        times["ceiling"].append(2 * 2048**3 / min(seconds(lambda: square @ square) for _ in range(2)))
        with torch.inference_mode():
            times["plain"].append(seconds(lambda: [model(chunk) for chunk in images.split(128)]))
        for label, objective in objectives.items():
            times[label].append(seconds(partial(landscape.surface, objective, x, y, grid, grid)) / GRID**2)
        here.send(peer)
        times["peer"].append(here.recv() / GRID**2 if peer else float("nan"))
    if peer:
        here.send(False)
        process.join()
    return {label: statistics.median(values[1:]) for label, values in times.items()}


def chunks() -> None:
    """Time of a point by the number of images that pass through the network together; None is the chosen one."""
    model, (images, labels) = models.build("resnet20", classes=10, channels=3, seed=0).eval(), examples(IMAGES["resnet20"])
    for chunk in (16, 64, 256, None):
        objective = Objective(model, images, labels, chunk=chunk)
        theta = objective.parameters()
        objective.evaluate(theta)
        taken = statistics.median(seconds(partial(objective.evaluate, theta)) for _ in range(REPEATS))
        print(f"{chunk or 'chosen'} images together: {taken:.2f} s a point")


def digits_resnet20() -> tuple[nn.Module, Tensor, Tensor]:
    """Trained on 1,000 digits, resized to 32 x 32 and coloured grey."""
    data = load_digits()
    images = F.interpolate(torch.from_numpy(data.images[:N]).float()[:, None] / 8 - 1, size=32).expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(data.target[:N])
    model = models.build("resnet20", classes=10, channels=3, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / STEPS)
        batch = torch.randint(0, N, (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    return model.eval(), images, labels


def precision(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Errors of float32 and bfloat16 on a surface, compared with the standard error of the mean over these examples."""
    x, y = (landscape.random_direction(model, landscape.axis_generator(0, axis)) for axis in range(2))
    tables, n, grid = {}, 16 if QUICK else 250, np.linspace(-0.5, 0.5, POINTS)
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
    n, tolerance = 8 if QUICK else 40, 1e-2
    objective = Objective(model, images[:n], labels[:n])
    theta, used = objective.parameters(), 0
    reference = curvature.extremes(objective, tolerance=1e-4)

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal used
        used += 1
        return objective.hessian_vector_product(theta, torch.from_numpy(vector.ravel().copy())).numpy()

    def report(label: str, taken: float, products: int | str, smallest: float, largest: float) -> None:
        errors = f"{abs(smallest / reference.smallest - 1):.1e} and {abs(largest / reference.largest - 1):.1e}"
        print(f"{label:>28}: {taken:6.1f} s, {products} products, smallest {smallest:.4g}, largest {largest:.4g}, relative errors {errors}")

    start = time.process_time()
    ends = curvature.extremes(objective, tolerance=tolerance)
    ours = time.process_time() - start
    report("one Krylov run, both ends", ours, ends.products, ends.smallest, ends.largest)
    start = time.process_time()
    operator = LinearOperator((len(theta), len(theta)), matvec=product, dtype=np.float64)
    vector = np.random.default_rng(0).standard_normal(len(theta))
    scipy_ends = [float(eigsh(operator, 1, which=end, tol=tolerance, v0=vector, return_eigenvectors=False)[0]) for end in ("SA", "LA")]
    taken = time.process_time() - start
    report("SciPy's eigsh, twice", taken, used, *scipy_ends)
    keep("Curvature", f"both extreme eigenvalues, ResNet-20, {n} images", {"SciPy eigsh, SA and LA": taken / ours})
    if installed("pyhessian"):
        from pyhessian import hessian

        start = time.process_time()
        peer = hessian(model, nn.CrossEntropyLoss(), data=(images[:n], labels[:n]), cuda=False)
        largest = float(peer.eigenvalues(maxIter=100, tol=tolerance, top_n=1)[0][0])
        report("PyHessian, largest alone", time.process_time() - start, "uncounted", float("nan"), largest)


def main() -> None:
    device = machine.prepare(threads=1)
    threadpool_limits(1)  # NumPy's and SciPy's libraries too: threads that wait count as processor time
    names = tuple(sys.argv[1:]) or tuple(IMAGES)
    print(f"{processor()}, {machine.describe(device)}, torch {torch.__version__}; medians of {REPEATS}")
    surfaces(names)
    chunks()
    trained = digits_resnet20()
    precision(*trained)
    eigenvalues(*trained)


if __name__ == "__main__":
    main()
