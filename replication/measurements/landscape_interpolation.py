"""The loss between small-batch and large-batch minimisers, and the size of their weights (Li et al. 2018, Figure 2)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from replication.landscape.slices import interpolation
from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.schema.landscape import InterpolationConfig
from replication.training.trained_run import TrainedRun


def measure(config: InterpolationConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """For every pair the line through both minimisers; for every run its norm at the kept steps and a histogram of its final weights."""
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    lines = [between(config, *pair).assign(small=pair[0].name, large=pair[1].name) for pair in pairs]
    progress(len(pairs), len(pairs))
    return pack({"interpolation": pd.concat(lines), "norms": pd.concat(map(norms, runs)), "weights": histograms(runs, config.bins)})


def tables(config: InterpolationConfig, parts: Sequence[Arrays]) -> Tables:
    """``interpolation`` by pair, split, statistics and point; ``norms`` by run and step; ``weights`` by run and bin."""
    return unpack(parts)


def between(config: InterpolationConfig, small: TrainedRun, large: TrainedRun) -> pd.DataFrame:
    """Training and test loss, small batch at 0 and large batch at 1.

    Rows with ``statistics`` False keep the running statistics of the small batch. Rows with ``trained`` False are the line between
    the two networks before training: they start from the same weights, so it is flat.
    """
    alphas = np.linspace(-0.5, 1.5, config.points)
    ends, starts = (small.model(), large.model()), (small.model(0), large.model(0))
    train, test = small.around(examples=config.examples), small.around(examples=config.test_examples, split="test")
    lines = [
        interpolation(train, *ends, alphas).assign(split="train", statistics=True, trained=True),
        interpolation(test, *ends, alphas).assign(split="test", statistics=True, trained=True),
        interpolation(train, *ends, alphas, statistics=False).assign(split="train", statistics=False, trained=True),
        interpolation(train, *starts, alphas).assign(split="train", statistics=True, trained=False),
    ]
    return pd.concat(lines)


def norms(run: TrainedRun) -> pd.DataFrame:
    """Euclidean norm of all parameters at the kept steps."""
    lengths = [float(np.linalg.norm(np.asarray(row, dtype=np.float64))) for row in run.trajectory]
    return pd.DataFrame({"run": run.name, "step": run.steps, "norm": lengths})


def histograms(runs: Sequence[TrainedRun], bins: int) -> pd.DataFrame:
    """Shares of the final parameters in bins that are the same for all runs and leave out one weight in a thousand at most."""
    finals = {run.name: np.asarray(run.trajectory[-1], dtype=np.float64) for run in runs}
    edge = max(float(np.quantile(np.abs(weights), 0.999)) for weights in finals.values())
    edges = np.linspace(-edge, edge, bins + 1)
    rows = []
    for name, weights in finals.items():
        counts, _ = np.histogram(weights, edges)
        rows.append(pd.DataFrame({"run": name, "low": edges[:-1], "high": edges[1:], "share": counts / len(weights)}))
    return pd.concat(rows)
