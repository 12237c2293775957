"""Exact loss change allocation along one run."""

from collections.abc import Sequence
from functools import partial

from replication.lca.ledger import Ledger
from replication.lca.trajectory import along
from replication.measurements import Arrays, Progress, Tables, span_of
from replication.schema.lca import LcaConfig
from replication.training.trained_run import TrainedRun


def measure(config: LcaConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The ledger of one span of iterations."""
    (run,) = runs
    objective_of = partial(run.objective, batch_norm=config.batch_norm, chunk=config.chunk)
    middle = max(0, (run.config.steps - config.trace_steps) // 2)
    ledger = along(
        objective_of(),
        run.trajectory,
        steps=span_of(part, config.spans, run.config.steps),
        max_error=config.max_error,
        max_intervals=config.max_intervals,
        by_class=config.by_class,
        validation=objective_of(validation=config.validation) if config.validation else None,
        trace=(config.trace, range(middle, middle + config.trace_steps)) if config.trace else None,
        progress=progress,
    )
    return ledger.arrays()


def tables(config: LcaConfig, parts: Sequence[Arrays]) -> Tables:
    """The tables of ``replication.lca.Ledger`` over the whole run."""
    return Ledger.merge([Ledger.from_arrays(arrays) for arrays in parts]).tables()
