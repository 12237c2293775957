"""Training networks as the papers did, bit for bit repeatable.

- ``loop``: the one training loop; ``update``: one step of it; ``batches``: which examples a step sees, which steps are kept.
- ``optimisation``: optimizer groups, schedules, freezing; ``augmentation``: crop and flip of a batch.
- ``evaluation``: loss and accuracy of whole sets; ``checkpoints``: what a training keeps on disk.
- ``trained_run``: a finished training as measurements read it.

Random numbers come from ``replication.seeds``.
"""

from replication.training.batches import batch_indices, kept_steps, steps_per_epoch
from replication.training.evaluation import evaluate
from replication.training.loop import Trained, train
from replication.training.optimisation import build_optimizer, learning_rate_factor
from replication.training.trained_run import TrainedRun
from replication.training.update import precision_on

__all__ = [
    "Trained",
    "TrainedRun",
    "batch_indices",
    "build_optimizer",
    "evaluate",
    "kept_steps",
    "learning_rate_factor",
    "precision_on",
    "steps_per_epoch",
    "train",
]
