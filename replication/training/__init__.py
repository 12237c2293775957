"""Training networks as the papers did, bit by bit repeatable.

- ``loop``: the one training loop; ``optimisation``: optimizer groups, schedules, freezing.
- ``augmentation``: crop and flip of a batch; ``checkpoints``: what a training keeps on disk.
- ``trained_run``: a finished training as measurements read it.
"""

from replication.training.loop import Trained, batch_indices, derived_seed, evaluate, kept_steps, precision_on, steps_per_epoch, train

__all__ = ["Trained", "batch_indices", "derived_seed", "evaluate", "kept_steps", "precision_on", "steps_per_epoch", "train"]
