"""Speed of loss change allocation on MNIST-FC, as shares of the machine's own ceiling, all measured in one run.

Run: python benchmarks/lca.py  (random images of MNIST's size, since the arithmetic does not depend on them).
FLOPs counted, per example and gradient: 2 MACs forward, 2 MACs for the weights' gradient, and 2 for the inputs' gradient of all
layers but the first, whose input needs none: 347,000 for 784-100-50-10, 19.1 GFLOP for 55,000 examples.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import torch
from ratios import QUICK, keep

from replication import lca, machine, models
from replication.files.provenance import processor
from replication.objective import Objective

N = 5_500 if QUICK else 55_000
MACS = (784 * 100, 100 * 50, 50 * 10)
FLOPS = N * (4 * MACS[0] + 6 * (MACS[1] + MACS[2]))
REPEATS = 1 if QUICK else 5


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Of the processor by default: one thread, on cores that others may use."""
    start = clock()
    work()
    return clock() - start


def objective_of(chunk: int | None = None, *, fast: bool = True) -> Objective:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(N, 1, 28, 28, generator=generator)
    labels = torch.randint(0, 10, (N,), generator=generator)
    return Objective(models.build("mnist_fc", classes=10, channels=1, seed=0), images, labels, chunk=chunk, fast=fast)


def points_around(objective: Objective, n: int) -> torch.Tensor:
    noise = torch.randn(n, objective.n_parameters, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return objective.parameters() + 0.01 * noise


def gradients() -> None:
    """Gradient against the matrix product: chunk sizes, points evaluated together, and the general path through autograd."""
    square = torch.rand(2048, 2048, generator=torch.Generator().manual_seed(0))
    print(f"{'path':>9} {'chunk':>6} {'points':>6} {'s/gradient':>11} {'GF/s':>6} {'ceiling':>8} {'share':>6}")
    shares: dict[tuple[str, int], float] = {}
    for path, chunk, n_points in [("stacked", c, p) for c in (1000, 5500, None) for p in (1, 2, 4, 8)] + [("autograd", 5500, 1)]:
        objective = objective_of(chunk, fast=path == "stacked")
        points = points_around(objective, n_points)
        ceilings, times = [], []
        for _ in range(REPEATS + 1):  # the ceiling is measured beside each case, since the core's own speed drifts
            ceilings.append(2 * 2048**3 / min(seconds(lambda: square @ square) for _ in range(3)))
            times.append(seconds(lambda objective=objective, points=points: objective.values_and_gradients(points)) / n_points)
        rate, ceiling = FLOPS / statistics.median(times[1:]), statistics.median(ceilings[1:])
        row = f"{path:>9} {objective.chunk:6} {n_points:6} {FLOPS / rate:11.3f}"
        print(f"{row} {rate / 1e9:6.0f} {ceiling / 1e9:8.0f} {rate / ceiling:6.0%}", flush=True)
        shares[path, n_points] = rate / ceiling  # the last chunk of each path is the chosen one
    used, plain = shares["stacked", 4], shares["autograd", 1]  # lca.along asks for four points
    keep("LCA", f"gradient over {N:,} images, MNIST-FC", {"autograd, one point": used / plain})


def bookkeeping() -> None:
    """How much of ``lca.along`` is not gradients, and that its memory does not grow with the steps."""
    objective = objective_of()
    points = points_around(objective, 4)
    per_gradient = statistics.median(seconds(lambda: objective.values_and_gradients(points)) / 4 for _ in range(REPEATS))
    path = objective.parameters() + torch.linspace(0, 1, 41, dtype=torch.float64)[:, None] * (points[0] - objective.parameters())
    peaks = []
    for n_steps in (4, 40):
        taken = seconds(lambda n_steps=n_steps: lca.along(objective, path[: n_steps + 1]))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    share = 1 - 81 * per_gradient / taken
    print(f"along: {taken / 40:.3f} s a step, {share:.0%} of it beside the gradients")
    print(f"peak memory {peaks[0]:.2f} GiB after 4 steps, {peaks[1]:.2f} GiB after 40")


class Walk:
    """The weights of a random walk, made when they are asked for, so that the trajectory itself takes no memory."""

    def __init__(self, start: torch.Tensor, n_steps: int) -> None:
        self._start, self._n_steps = start, n_steps

    def __len__(self) -> int:
        return self._n_steps + 1

    def __getitem__(self, step: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(step // 100)
        first, second = torch.randn(2, len(self._start), generator=generator, dtype=torch.float64)
        return self._start + 1e-2 * first + 1e-4 * (step % 100) * second


def peak_memory(n_steps: int, report: Connection) -> None:
    """Peak memory of a process that allocates a ResNet-20 of 273,066 parameters along ``n_steps`` iterations."""
    machine.prepare(1)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(100, 3, 8, 8, generator=generator), torch.randint(0, 10, (100,), generator=generator)
    objective = Objective(models.build("lca_resnet20", classes=10, channels=3, seed=0), images, labels, batch_norm="batch", chunk=100)
    ledger = lca.along(objective, Walk(objective.parameters(), n_steps), max_intervals=2)
    ledger.tables()
    report.send((objective.n_parameters, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def memory_along_a_long_run() -> None:
    """Totals and helping counts of every parameter over 1,000 iterations, in memory that does not depend on their number."""
    context, peaks = multiprocessing.get_context("spawn"), {}
    for n_steps in (50, 1000):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=peak_memory, args=(n_steps, sender))
        process.start()
        n_parameters, peaks[n_steps] = receiver.recv()
        process.join()
    whole = 1000 * n_parameters * 8 / 2**30
    print(f"{n_parameters:,} parameters: peak memory {peaks[50]:.2f} GiB after 50 iterations, {peaks[1000]:.2f} GiB after 1,000")
    print(f"(iterations x parameters in float64 would be {whole:.2f} GiB; the process without any of it is about 0.3 GiB)")


def worker(barrier: Barrier, threads: int, rounds: int) -> None:
    machine.prepare(threads)
    objective = objective_of()
    points = points_around(objective, 4)
    objective.values_and_gradients(points)
    barrier.wait()
    for _ in range(rounds):
        objective.values_and_gradients(points)


def threads_against_processes() -> None:
    """The same gradients by two single-threaded processes and by one process with two threads."""
    context, rates = multiprocessing.get_context("spawn"), {}
    for processes, threads in ((2, 1), (1, 2)):
        barrier = context.Barrier(processes + 1)
        jobs = [context.Process(target=worker, args=(barrier, threads, 8 // processes)) for _ in range(processes)]
        for job in jobs:
            job.start()
        barrier.wait()
        rates[processes] = 8 / seconds(lambda jobs=jobs: [job.join() for job in jobs], clock=time.perf_counter)
    print(f"two processes of one thread against one process of two threads: {rates[2] / rates[1]:.2f} times as many gradients a second")


def main() -> None:
    device = machine.prepare(threads=1)
    print(f"{processor()}, {machine.describe(device)}, torch {torch.__version__}")
    print(f"{FLOPS / 1e9:.1f} GFLOP per gradient; medians of {REPEATS}")
    if not QUICK:
        memory_along_a_long_run()  # first: a process starts with the peak memory of the one that started it
    gradients()
    if not QUICK:
        bookkeeping()
        threads_against_processes()


if __name__ == "__main__":
    main()
