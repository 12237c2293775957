"""Sampled loss change allocation along one run."""

from collections.abc import Callable, Sequence

from torch import Tensor

from replication.lca import sampled
from replication.lca.sampled import SampledLedger
from replication.measurements import Arrays, Progress, Tables, span_of
from replication.schema.lca import SampledLcaConfig
from replication.training.batches import batch_indices
from replication.training.trained_run import TrainedRun


def measure(config: SampledLcaConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The ledger of one span of iterations."""
    (run,) = runs
    ledger = sampled.along(
        run.objective(batch_norm=config.batch_norm, chunk=config.chunk),
        run.trajectory,
        subset=_subset(config, run),
        groups=config.groups,
        intervals=config.intervals,
        steps=span_of(part, config.spans, run.config.steps),
        progress=progress,
    )
    return ledger.arrays()


def tables(config: SampledLcaConfig, parts: Sequence[Arrays]) -> Tables:
    """Estimates of tensors and layers over the whole run."""
    return SampledLedger.merge([SampledLedger.from_arrays(arrays) for arrays in parts]).tables()


def _subset(config: SampledLcaConfig, run: TrainedRun) -> Callable[[int], Tensor]:
    n = len(run.experiment.train.labels)
    if config.subset == "minibatch":
        return lambda step: batch_indices(step, n, run.config, run.seed)[: config.examples]
    return sampled.random_subset(n, config.examples, seed=config.seed, fresh=config.subset == "fresh")
