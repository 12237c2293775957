"""Training speed of the CIFAR networks against the usual loop, all measured in one run, one thread.

Run: python benchmarks/training.py [NAME ...]  (random images in CIFAR-10's format; batch 128, the widest networks 16).

usual     float32, contiguous NCHW, DataLoader with RandomCrop, RandomHorizontalFlip, ToTensor and Normalize on PIL images, in a
          process of its own
float32   this package's loop: images resident as one tensor, crop and flip by one gather, channels_last
bfloat16  the same with autocast (only on a processor with instructions for it)
compiled  the fastest of these through torch.compile (only where COMPILE=1 is set: it takes half a minute or more per network)

The ceiling is the matrix product of two 2048 x 2048 matrices in the same precision, measured beside each network; a step counts as 6 MACs
per forward MAC.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from PIL import Image
from ratios import QUICK, keep
from torch import Tensor

from replication import machine, models
from replication.data import Examples, Experiment
from replication.data.sources import import_torchvision
from replication.files.provenance import processor
from replication.models.counting import multiply_accumulates, on_meta
from replication.objective import memory_format
from replication.schema.runs import RunConfig
from replication.training.augmentation import crop_and_flip
from replication.training.optimisation import build_optimizer
from replication.training.update import make_update

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
N_IMAGES = 256 if QUICK else 2048
REPEATS = 1 if QUICK else 3
HAS_BFLOAT16 = machine.multiplies_bfloat16(torch.device("cpu"))
LOOPS = ("float32", *(("bfloat16",) if HAS_BFLOAT16 else ()), *(("compiled",) if os.environ.get("COMPILE") == "1" else ()))


def seconds(work: Callable[[], object]) -> float:
    """Of the processor: one thread, on cores that others may use."""
    start = time.process_time()
    work()
    return time.process_time() - start


def config_of(name: str, batch: int, precision: str) -> RunConfig:
    optimizer = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    settings = {"dataset": {"name": "cifar10"}, "model": name, "optimizer": optimizer, "augment": {"crop": 4, "flip": True}}
    return RunConfig.model_validate(settings | {"batch_size": batch, "steps": 1, "seeds": 1, "precision": precision})


class ListOfImages(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """PIL images through transforms, as torchvision.datasets.CIFAR10 serves them."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        transforms = import_torchvision().transforms
        steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.transform = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
        self.pixels, self.labels = pixels.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def usual_steps(name: str, pixels: Tensor, labels: Tensor, batch: int) -> Iterator[None]:
    """The loop that everybody writes; one step per item."""
    model = models.build(name, classes=10, channels=3, seed=0).train()
    optimizer = build_optimizer(model, config_of(name, batch, "float32").optimizer)
    while True:
        for images, targets in torch.utils.data.DataLoader(ListOfImages(pixels, labels), batch, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), targets).backward()
            optimizer.step()
            yield


def usual_process(connection: Connection, name: str, batch: int) -> None:
    """Makes a step whenever it is asked to and answers with its seconds."""
    torch.set_num_threads(1)
    pixels, labels = random_images()
    steps = usual_steps(name, pixels, labels, batch)
    while connection.recv():
        connection.send(seconds(lambda: next(steps)))


def our_steps(name: str, experiment: Experiment, batch: int, loop: str) -> Iterator[None]:
    """Steps of ``training.train``, one per item."""
    config = config_of(name, batch, "float32" if loop == "float32" else "bfloat16")
    model = models.build(name, classes=10, channels=3, seed=0).train()
    memory_format.prepare(model)
    optimizer = build_optimizer(model, config.optimizer)
    forward = torch.compile(model) if loop == "compiled" else model
    step = 0
    while True:
        make_update(forward, optimizer, experiment, config, step, seed=0)
        step += 1
        yield


def precision_of(loop: str) -> torch.dtype:
    return torch.float32 if loop == "float32" or not HAS_BFLOAT16 else torch.bfloat16


def ceiling(dtype: torch.dtype) -> float:
    """GF/s of the square matrix product."""
    square = torch.rand(2048, 2048).to(dtype)
    return 2 * 2048**3 / min(seconds(lambda: square @ square) for _ in range(3)) / 1e9


def data_share(experiment: Experiment, batch: int, step_seconds: float) -> float:
    """Time of gathering, cropping and flipping a batch as a share of a step."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(N_IMAGES)[:batch]

    def prepare() -> None:
        crop_and_flip(experiment.train.images[chosen], crop=4, flip=True, fill=experiment.black, generator=generator)

    return statistics.median(seconds(prepare) for _ in range(10)) / step_seconds


def measure(name: str, experiment: Experiment) -> None:
    macs = sum(multiply_accumulates(on_meta(name), (3, 32, 32)).values())
    batch = 16 if macs > 1e9 or QUICK else 128
    here, there = multiprocessing.get_context("spawn").Pipe()
    usual = multiprocessing.get_context("spawn").Process(target=usual_process, args=(there, name, batch), daemon=True)
    usual.start()
    loops = {loop: our_steps(name, experiment, batch, loop) for loop in LOOPS}
    times: dict[str, list[float]] = {loop: [] for loop in ("usual", *loops)}
    for _ in range(REPEATS + 1):  # one after the other, so that the core's drift meets all alike
        here.send(True)
        times["usual"].append(here.recv())
        for loop, steps in loops.items():
            times[loop].append(seconds(lambda steps=steps: next(steps)))
    here.send(False)
    usual.join()
    median = {loop: statistics.median(values[1:]) for loop, values in times.items()}
    speed = {loop: batch / value for loop, value in median.items()}
    share = {loop: 6 * macs * speed[loop] / 1e9 / ceiling(precision_of(loop)) for loop in LOOPS}
    row = " ".join(f"{speed[loop]:8.0f}" for loop in times)
    ratios = " ".join(f"{speed[loop] / speed['usual']:7.2f}x" for loop in LOOPS)
    shares = " ".join(f"{share[loop]:8.0%}" for loop in LOOPS)
    print(f"{name:24} {batch:5} {row}  {ratios}  {shares}  {data_share(experiment, batch, min(median.values())):6.1%}", flush=True)
    for loop in LOOPS:
        keep("Training", f"{name}, {loop}", {"usual loop, float32": speed[loop] / speed["usual"]})


def random_images() -> tuple[Tensor, Tensor]:
    """Pixels (uint8) and labels in CIFAR-10's format."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(0, 10, (N_IMAGES,), generator=generator)


def main() -> None:
    device = machine.prepare(threads=1)
    pixels, labels = random_images()
    images = (pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    examples = Examples(images.contiguous(), labels)
    experiment = Experiment(examples, examples, examples, 10, -torch.tensor(MEAN)[:, None, None] / torch.tensor(STD)[:, None, None])
    print(f"{processor()}, {machine.describe(device)}, torch {torch.__version__}; medians of {REPEATS} steps")
    columns = " ".join(f"{loop:>8}" for loop in LOOPS)
    print(f"{'':30} {'images/s':>8} {'':{9 * len(LOOPS)}} {'times the usual':{9 * len(LOOPS)}} share of the ceiling")
    print(f"{'':24} {'batch':>5} {'usual':>8} {columns}  {columns}  {columns}  data")
    chosen = sys.argv[1:] or [name for name in models.names() if models.entry_of(name).image == (3, 32, 32)]
    for name in chosen:
        measure(name, experiment)


if __name__ == "__main__":
    main()
