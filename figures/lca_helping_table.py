"""LCA Table 1: share of helping parameters by network and optimiser, published (recalled) beside measured."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_helping_over_time import helping_share
from figures.style import GREY, LOSS, Quantities, Tables
from replication.claims.statistics import mean_interval

# run: network, optimiser, published per cent and its spread (recalled: never gates anything) or None
ROWS: dict[str, tuple[str, str, tuple[float, float | None] | None]] = {
    "mnist_fc": ("MNIST-FC", "SGD, momentum 0.9", (57.79, 0.16)),
    "mnist_fc_no_momentum": ("MNIST-FC", "SGD, no momentum", (53.72, 0.05)),
    "mnist_fc_adam": ("MNIST-FC", "Adam", (55.82, 0.09)),
    "lenet": ("MNIST-LeNet", "SGD, momentum 0.9", (53.97, 0.51)),
    "lenet_adam": ("MNIST-LeNet", "Adam", (51.77, None)),
    "resnet20": ("CIFAR-ResNet-20", "SGD 0.1, momentum 0.9", (50.66, 0.14)),
    "resnet20_adam": ("CIFAR-ResNet-20", "Adam", (50.30, 0.004)),
    "resnet20_low_lr": ("CIFAR-ResNet-20", "SGD 0.01, momentum 0.9", None),
    "resnet20_large_batch": ("CIFAR-ResNet-20", "SGD 0.1, momentum 0.9, batch 1,000", None),
    "allcnn": ("CIFAR-AllCNN", "SGD, momentum 0.9", (51.09, 0.25)),
    "allcnn_adam": ("CIFAR-AllCNN", "Adam", (50.19, 0.03)),
}


def counts_of(tables: Tables, run: str) -> pd.DataFrame | None:
    """Helping and hurting parameters per seed and step of a run, from whichever measurement has it."""
    if (measurement := f"{run}_lca") in tables:
        columns = ["helping", "hurting", "helping_shuffled", "hurting_shuffled"]
        return tables[measurement]["layers"].groupby(["seed", "step"])[columns].sum().reset_index()
    by_measurement = [table["shares"] for table in tables.values() if "shares" in table]
    return next((shares[shares["run"] == run] for shares in by_measurement if run in set(shares["run"])), None)


def shares(tables: Tables, ending: str = "") -> dict[str, pd.Series]:
    """Per run and seed: mean share over the iterations that all optimisers of the network have."""
    by_network: dict[str, pd.Series] = {}
    for network in dict.fromkeys(name for name, _, _ in ROWS.values()):
        counts = {run: counts_of(tables, run) for run, (name, _, _) in ROWS.items() if name == network}
        measured = {run: table for run, table in counts.items() if table is not None}
        common = min((table["step"].max() for table in measured.values()), default=0)
        for run, table in measured.items():
            kept = table[table["step"] <= common]
            by_network[run] = helping_share(kept, f"helping{ending}", f"hurting{ending}").groupby(kept["seed"]).mean()
    return by_network


def quantities(tables: Tables) -> Quantities:
    """The shares, the same under shuffled gradients, and what momentum and SGD add."""
    endings = ("", "_shuffled")
    estimates = {f"{run}_helping_percent{ending}": share for ending in endings for run, share in shares(tables, ending).items()}
    for name, minuend, subtrahend in (
        ("momentum_gain_mnist_fc", "mnist_fc", "mnist_fc_no_momentum"),
        *((f"sgd_over_adam_{network}", network, f"{network}_adam") for network in ("mnist_fc", "lenet", "resnet20", "allcnn")),
    ):
        for ending in endings:
            pair = [f"{network}_helping_percent{ending}" for network in (minuend, subtrahend)]
            if all(each in estimates for each in pair):
                estimates[f"{name}{ending}"] = estimates[pair[0]] - estimates[pair[1]]
    residual = [share for run, share in shares(tables).items() if run.startswith("resnet20")]
    if residual:
        estimates["resnet20_highest_helping_percent"] = pd.concat(residual, axis=1).max(axis=1)
    return estimates


def draw(tables: Tables) -> Figure:
    """A row per network and optimiser: every seed, the mean's 90 % interval and the published value as recalled; numbers at the right."""
    figure, axes = plt.subplots(figsize=(8.6, 4.2))
    measured = shares(tables)
    for place, (run, (_, _, published)) in enumerate(ROWS.items()):
        _draw_published(axes, place, published)
        _draw_measured(axes, place, measured.get(run))
    axes.axvline(50, color="black", ls="--", lw=0.8)
    axes.set_yticks(range(len(ROWS)), [f"{network}: {optimiser}" for network, optimiser, _ in ROWS.values()])
    axes.invert_yaxis()
    values = [50.0, *(value for share in measured.values() for value in share.dropna()), *(row[0] for *_, row in ROWS.values() if row)]
    axes.set(xlabel="parameters that help in an iteration (%, zeros left out)", xlim=(min(values) - 1, max(values) + 2))
    for column, heading in ((1.13, "Table 1\n(recalled,\nnot checked)"), (1.5, "measured\nmean [90 %]")):
        axes.text(column, 1.02, heading, transform=axes.transAxes, ha="center", va="bottom", fontsize=7)
    axes.plot([], [], "D", mfc="white", color=GREY, label="Table 1 (recalled)")
    axes.plot([], [], "o", color=LOSS, label="measured: seeds, interval")
    axes.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    sns.despine(figure)
    return figure


def _at_right(axes: Axes, column: float, place: int, text: str, colour: str) -> None:
    axes.annotate(text, (column, place), xycoords=("axes fraction", "data"), ha="center", va="center", fontsize=7, color=colour)


def _draw_published(axes: Axes, place: int, published: tuple[float, float | None] | None) -> None:
    if published is None:
        _at_right(axes, 1.13, place, "none", GREY)
        return
    mean, spread = published
    axes.errorbar(mean, place, xerr=spread, fmt="D", mfc="white", color=GREY, ms=5)
    _at_right(axes, 1.13, place, f"{mean:.2f}" + (f" ± {spread:g}" if spread else ""), GREY)


def _draw_measured(axes: Axes, place: int, share: pd.Series | None) -> None:
    if share is None:
        _at_right(axes, 1.5, place, "not measured here", GREY)
        return
    low, high = mean_interval(share.to_list())
    if len(share) > 1:
        axes.plot([low, high], [place, place], color=LOSS, lw=4, alpha=0.35, solid_capstyle="butt")
    axes.plot(share, [place] * len(share), "o", color=LOSS, ms=3)
    _at_right(axes, 1.5, place, f"{share.mean():.2f}" + (f" [{low:.2f}, {high:.2f}]" if len(share) > 1 else ""), LOSS)
