"""Speed of the full-set gradient of MNIST-FC, on which loss change allocation spends its time, as shares of the machine's own ceiling.

Run: python benchmarks/lca.py  (one thread; random images of MNIST's size, since the arithmetic does not depend on them).
FLOPs counted, per example and gradient: 2 MACs forward, 2 MACs for the weights' gradient, and 2 for the inputs' gradient of all
layers but the first, whose input needs none: 350,000 for 784-100-50-10.
"""

import statistics
import time
from collections.abc import Callable

import torch

from replication import machine, models, records
from replication.objective import Objective

N = 55_000
MACS = (784 * 100, 100 * 50, 50 * 10)
FLOPS = N * (4 * MACS[0] + 6 * (MACS[1] + MACS[2]))
REPEATS = 5


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    device = machine.prepare(threads=1)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(N, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (N,), generator=generator)
    model = models.build("mnist_fc", classes=10, channels=1, seed=0)
    square = torch.rand(2048, 2048, generator=generator)
    print(f"{records.processor()}, {machine.describe(device)}; {FLOPS / 1e9:.1f} GFLOP per gradient; median of {REPEATS}")
    cases = [(chunk, points) for chunk in (1000, 5500, None) for points in (1, 2, 4, 8)]
    print(f"{'chunk':>8} {'points':>6} {'s/gradient':>11} {'GF/s':>7} {'ceiling':>8} {'share':>6}")
    for chunk, points in cases:
        objective = Objective(model, images, labels, chunk=chunk)
        thetas = objective.parameters() + 0.01 * torch.randn(points, objective.n_parameters, generator=generator, dtype=torch.float64)
        ceilings, times = [], []
        for _ in range(REPEATS + 1):  # the ceiling is measured beside each case, since the core's own speed drifts
            ceilings.append(2 * 2048**3 / min(seconds(lambda: square @ square) for _ in range(3)))
            times.append(seconds(lambda objective=objective, thetas=thetas: objective.values_and_gradients(thetas)) / points)
        rate, ceiling = FLOPS / statistics.median(times[1:]), statistics.median(ceilings[1:])
        print(f"{objective.chunk:8} {points:6} {FLOPS / rate:11.3f} {rate / 1e9:7.0f} {ceiling / 1e9:8.0f} {rate / ceiling:6.0%}")


if __name__ == "__main__":
    main()
