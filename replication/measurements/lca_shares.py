"""Shares of helping parameters of several runs, from exact loss change allocation."""

from collections.abc import Sequence

import pandas as pd

from replication.lca.ledger import Ledger
from replication.lca.trajectory import along
from replication.measurements import Arrays, Progress, Tables, below, span_of
from replication.schema.lca import LcaSharesConfig
from replication.training.trained_run import TrainedRun

COLUMNS = ("helping", "hurting", "zero", "helping_shuffled", "hurting_shuffled")


def measure(config: LcaSharesConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The ledgers of a part: all runs, or one span of one run; each array under ``<run>/<number of the span>/<name>``."""
    spans = [part % config.spans] if config.scatter else range(config.spans)
    chosen = [(run, span) for run in runs for span in spans]
    arrays: Arrays = {}
    for number, (run, span) in enumerate(chosen):
        ledger = along(
            run.objective(batch_norm=config.batch_norm, chunk=config.chunk),
            run.trajectory,
            steps=span_of(span, config.spans, run.config.steps),
            max_error=config.max_error,
            max_intervals=config.max_intervals,
        )
        arrays |= {f"{run.name}/{span}/{name}": values for name, values in ledger.arrays().items()}
        progress(number + 1, len(chosen))
    return arrays


def tables(config: LcaSharesConfig, parts: Sequence[Arrays]) -> Tables:
    """``shares``: a row per run and step with the numbers of parameters that help, hurt and do neither, also with shuffled gradients."""
    arrays = {key: values for part in parts for key, values in part.items()}
    shares = []
    for run in config.runs:
        spans = [Ledger.from_arrays(below(arrays, f"{run}/{span}")) for span in range(config.spans)]
        ledger = Ledger.merge(spans).tables()
        counts = ledger["layers"].groupby("step", as_index=False)[list(COLUMNS)].sum()
        counts.insert(0, "run", run)
        shares.append(counts.assign(loss_end=ledger["steps"]["loss_end"], error=ledger["steps"]["error"]))
    return {"shares": pd.concat(shares, ignore_index=True)}
