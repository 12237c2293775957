"""Loss change allocated to the layers of several runs, with and without the opening phase."""

from collections.abc import Sequence

import pandas as pd

from replication.lca import sampled
from replication.lca.sampled import SampledLedger
from replication.measurements import Arrays, Progress, Tables, below
from replication.schema.lca import LcaLayersConfig
from replication.training.trained_run import TrainedRun


def measure(config: LcaLayersConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """The ledgers of the part's runs, each array under ``<run>/<phase>/<name>``."""
    arrays: Arrays = {}
    for number, run in enumerate(runs):
        for phase, ledger in _phases(config, run).items():
            arrays |= {f"{run.name}/{phase}/{name}": values for name, values in ledger.arrays().items()}
        progress(number + 1, len(runs))
    return arrays


def _phases(config: LcaLayersConfig, run: TrainedRun) -> dict[str, SampledLedger]:
    objective = run.objective(batch_norm=config.batch_norm, chunk=config.chunk)
    n, steps = len(objective.labels), run.config.steps
    subset = sampled.random_subset(n, min(config.examples, n), seed=config.seed, fresh=False)
    phases = {"opening": range(config.opening), "late": range(config.opening, steps)}
    return {
        phase: sampled.along(objective, run.trajectory, subset=subset, groups=config.groups, intervals=config.intervals, steps=span)
        for phase, span in phases.items()
    }


def tables(config: LcaLayersConfig, parts: Sequence[Arrays]) -> Tables:
    """``totals``: a row per run and parameter tensor or layer, over the whole run and (``lca_late``) without its opening phase."""
    arrays = {key: values for part in parts for key, values in part.items()}
    totals = []
    for run in config.runs:
        ledgers = {}
        for phase in ("opening", "late"):
            ledgers[phase] = SampledLedger.from_arrays(below(arrays, f"{run}/{phase}"))
        table = SampledLedger.merge(list(ledgers.values())).tables()["totals"]
        late = ledgers["late"].tables()["totals"]
        table.insert(0, "run", run)
        totals.append(table.assign(lca_late=late["lca"], standard_error_late=late["standard_error"]))
    return {"totals": pd.concat(totals, ignore_index=True)}
