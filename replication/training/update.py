"""One update of the weights: forward pass, gradient, step of the optimizer."""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replication import machine
from replication.data.examples import Experiment
from replication.schema.runs import RunConfig
from replication.seeds import generator
from replication.training.augmentation import crop_and_flip
from replication.training.batches import batch_indices


def make_update(
    model: nn.Module, optimizer: torch.optim.Optimizer, experiment: Experiment, config: RunConfig, step: int, seed: int
) -> Tensor:
    """Update the weights by the mini-batch of ``step``.

    Returns:
        The batch's mean loss and accuracy before the update, float64 ``[2]``, left on the device so that nothing waits for it.

    Example:
        >>> from replication.data import assemble
        >>> from replication.data.sources import read
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> config = RunConfig.model_construct(batch_size=100)
        >>> digits = assemble(read("digits"))
        >>> losses = [make_update(model, optimizer, digits, config, step, seed=0)[0].item() for step in range(30)]
        >>> losses[-1] < losses[0]
        True
    """
    images, labels = _batch(experiment, config, step, seed)
    optimizer.zero_grad(set_to_none=True)
    totals = torch.zeros(2, dtype=torch.float64, device=images.device)
    size = config.microbatch or len(labels)
    for part, targets in zip(images.split(size), labels.split(size), strict=True):
        with forward_precision(images.device, config):
            outputs = model(part)
        loss = F.cross_entropy(outputs.float(), targets)
        share = len(targets) / len(labels)
        if loss.requires_grad:  # not where every layer is frozen
            (loss if share == 1 else loss * share).backward()
        totals += share * torch.stack([loss.detach().double(), (outputs.argmax(1) == targets).double().mean()])
    optimizer.step()
    return totals


def _batch(experiment: Experiment, config: RunConfig, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images and labels of a mini-batch, the images augmented."""
    data = experiment.train
    batch = batch_indices(step, len(data.labels), config, seed).to(data.images.device)
    images, labels = data.images[batch], data.labels[batch]
    if config.augment.crop or config.augment.flip:
        draws = generator(seed, "augmentation", step)
        images = crop_and_flip(images, crop=config.augment.crop, flip=config.augment.flip, fill=experiment.black, generator=draws)
    return images, labels


def precision_on(device: torch.device, config: RunConfig) -> str:
    """Precision of the forward pass: as configured, but float32 where the device only emulates bfloat16.

    Example:
        >>> precision_on(torch.device("cpu"), RunConfig.model_construct(precision="float32"))
        'float32'
    """
    return config.precision if machine.multiplies_bfloat16(device) else "float32"


def forward_precision(device: torch.device, config: RunConfig) -> contextlib.AbstractContextManager[object]:
    """Autocast where the forward pass is in bfloat16; in float32 no context, since autocast costs time even when it does nothing.

    Example:
        >>> with forward_precision(torch.device("cpu"), RunConfig.model_construct(precision="float32")):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    if config.precision == "float32" or precision_on(device, config) == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
