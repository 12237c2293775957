"""Loss and accuracy of whole sets of examples during a training."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from replication.data.examples import Examples
from replication.schema.runs import RunConfig

Evaluation = tuple[int, str, float, float]  # step, split, mean loss, accuracy


@torch.no_grad()
def evaluate(model: nn.Module, examples: Examples, *, chunk: int = 1000) -> tuple[float, float]:
    """Mean cross-entropy (float64 sum) and accuracy in [0, 1] in evaluation mode, float32; nan where there are no examples.

    Args:
        chunk: examples in one forward pass.

    Example:
        >>> loss, accuracy = evaluate(nn.Identity(), Examples(torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])))
        >>> round(loss, 4), accuracy  # the loss is log(2)
        (0.6931, 0.75)
    """
    if len(examples.labels) == 0:
        return float("nan"), float("nan")
    model.eval()
    loss, correct = (torch.zeros((), dtype=kind, device=examples.labels.device) for kind in (torch.float64, torch.int64))
    for images, labels in zip(examples.images.split(chunk), examples.labels.split(chunk), strict=True):
        outputs = model(images)
        loss += F.cross_entropy(outputs.double(), labels, reduction="sum")
        correct += (outputs.argmax(1) == labels).sum()
    return loss.item() / len(examples.labels), correct.item() / len(examples.labels)


def steps_at_losses(config: RunConfig, evaluations: Iterable[Evaluation]) -> list[int]:
    """After which steps the losses of ``stop_at_losses`` were reached, in its order; losses that were not reached are left out.

    Example:
        >>> from replication.schema.runs import LossStops
        >>> config = RunConfig.model_construct(stop_at_losses=LossStops(values=[1.0, 0.5], every=10))
        >>> steps_at_losses(config, [(10, "train", 1.2, 0.5), (20, "train", 0.9, 0.6), (30, "train", 0.7, 0.7)])
        [20]
    """
    if config.stop_at_losses is None:
        return []
    measured = [(step, loss) for step, split, loss, _ in evaluations if split == "train"]
    first_steps = (next((step for step, loss in measured if loss <= value), None) for value in config.stop_at_losses.values)
    return [step for step in first_steps if step is not None]
