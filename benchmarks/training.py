"""Training speed of the CIFAR networks against the usual loop, all measured in one run, one thread.

Run: python benchmarks/training.py [NAME ...]  (random images in CIFAR-10's format; batch 128, the widest networks 16).

usual     float32, contiguous NCHW, torchvision's DataLoader with RandomCrop, RandomHorizontalFlip, ToTensor and Normalize on PIL images
float32   this package's loop: images resident as one tensor, crop and flip by one gather, channels_last
bfloat16  the same with autocast

The ceiling is the matrix product of two 2048 x 2048 matrices in the same precision, measured beside each network; a step counts as 6 MACs
per forward MAC.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from replication import machine, models, records, training
from replication.augmentation import crop_and_flip
from replication.data import Examples, Experiment
from replication.models_table import multiply_accumulates, on_meta
from replication.optimisation import build_optimizer
from replication.schema import RunConfig
from replication.torchvision_shim import import_torchvision

MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
N_IMAGES = 2048
REPEATS = 3


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def our_steps(name: str, experiment: Experiment, batch: int, precision: str) -> Iterator[None]:
    """Steps of ``training.train``, one per item."""
    config = config_of(name, batch, precision)
    model = models.build(name, classes=10, channels=3, seed=0).train()
    model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, config.optimizer)
    step = 0
    while True:
        training._step(model, optimizer, experiment, config, step, seed=0)
        step += 1
        yield


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


def measure(name: str, pixels: Tensor, labels: Tensor, experiment: Experiment) -> None:
    macs = multiply_accumulates(on_meta(name), (3, 32, 32))
    batch = 16 if macs > 1e9 else 128
    loops = {
        "usual": usual_steps(name, pixels, labels, batch),
        "float32": our_steps(name, experiment, batch, "float32"),
        "bfloat16": our_steps(name, experiment, batch, "bfloat16"),
    }
    times: dict[str, list[float]] = {loop: [] for loop in loops}
    for _ in range(REPEATS + 1):
        for loop, steps in loops.items():
            times[loop].append(seconds(lambda steps=steps: next(steps)))
    median = {loop: statistics.median(values[1:]) for loop, values in times.items()}
    speed = {loop: batch / value for loop, value in median.items()}
    share = {
        loop: 6 * macs * speed[loop] / 1e9 / ceiling(dtype) for loop, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    ratios = " ".join(f"{speed[loop] / speed['usual']:5.2f}x" for loop in ("float32", "bfloat16"))
    shares = " ".join(f"{share[loop]:5.0%}" for loop in ("float32", "bfloat16"))
    row = " ".join(f"{speed[loop]:8.0f}" for loop in loops)
    print(f"{name:24} {batch:5} {row}   {ratios}   {shares}   {data_share(experiment, batch, median['bfloat16']):6.1%}", flush=True)


def main() -> None:
    device = machine.prepare(threads=1)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (N_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (N_IMAGES,), generator=generator)
    images = (pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    examples = Examples(images.contiguous(), labels)
    experiment = Experiment(examples, examples, examples, 10, -torch.tensor(MEAN)[:, None, None] / torch.tensor(STD)[:, None, None])
    print(f"{records.processor()}, {machine.describe(device)}, torch {torch.__version__}; medians of {REPEATS} steps")
    print(f"{'images/s':24} {'batch':>5} {'usual':>8} {'float32':>8} {'bfloat16':>8}   {'over usual':13}   {'of ceiling':11}   data")
    chosen = sys.argv[1:] or [name for name in models.names() if models.entry_of(name).image == (3, 32, 32)]
    for name in chosen:
        measure(name, pixels, labels, experiment)


if __name__ == "__main__":
    main()
