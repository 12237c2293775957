"""LCA Table 1: share of helping parameters by network and optimiser, published (recalled) beside measured."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lca_helping_over_time import helping_share
from figures.style import LOSS, Quantities, Tables
from replication.statistics import mean_interval

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
    "resnet20_large_batch": ("CIFAR-ResNet-20", "SGD 0.1, momentum 0.9, large batch", None),
    "allcnn": ("CIFAR-AllCNN", "SGD, momentum 0.9", (51.09, 0.25)),
    "allcnn_adam": ("CIFAR-AllCNN", "Adam", (50.19, 0.03)),
}
OTHERS = "other_shares"


def counts_of(tables: Tables, run: str) -> pd.DataFrame | None:
    """Helping and hurting parameters per seed and step of a run, from whichever measurement has it."""
    if (measurement := f"{run}_lca") in tables:
        columns = ["helping", "hurting", "helping_shuffled", "hurting_shuffled"]
        return tables[measurement]["layers"].groupby(["seed", "step"])[columns].sum().reset_index()
    if OTHERS in tables and run in set(tables[OTHERS]["shares"]["run"]):
        return tables[OTHERS]["shares"].query("run == @run")
    return None


def shares(tables: Tables, ending: str = "") -> dict[str, pd.Series]:
    """Per run and seed: mean share over the iterations that all optimisers of the network have."""
    found: dict[str, pd.Series] = {}
    for network in dict.fromkeys(name for name, _, _ in ROWS.values()):
        counts = {run: counts_of(tables, run) for run, (name, _, _) in ROWS.items() if name == network}
        measured = {run: table for run, table in counts.items() if table is not None}
        common = min((table["step"].max() for table in measured.values()), default=0)
        for run, table in measured.items():
            kept = table[table["step"] <= common]
            found[run] = helping_share(kept, f"helping{ending}", f"hurting{ending}").groupby(kept["seed"]).mean()
    return found


def quantities(tables: Tables) -> Quantities:
    """The shares, the same under shuffled gradients, and what momentum and SGD add."""
    endings = ("", "_shuffled")
    found = {f"{run}_helping_percent{ending}": share for ending in endings for run, share in shares(tables, ending).items()}
    for name, minuend, subtrahend in (
        ("momentum_gain_mnist_fc", "mnist_fc", "mnist_fc_no_momentum"),
        *((f"sgd_over_adam_{network}", network, f"{network}_adam") for network in ("mnist_fc", "lenet", "resnet20", "allcnn")),
    ):
        for ending in endings:
            pair = [f"{network}_helping_percent{ending}" for network in (minuend, subtrahend)]
            if all(each in found for each in pair):
                found[f"{name}{ending}"] = found[pair[0]] - found[pair[1]]
    residual = [share for run, share in shares(tables).items() if run.startswith("resnet20")]
    if residual:
        found["resnet20_highest_helping_percent"] = pd.concat(residual, axis=1).max(axis=1)
    return found


def draw(tables: Tables) -> Figure:
    """A row per network and optimiser: every seed, mean with its 90 % interval, and the published value as recalled."""
    figure, axes = plt.subplots(figsize=(7.6, 4.4))
    measured = shares(tables)
    for place, (run, (_, _, published)) in enumerate(ROWS.items()):
        if published is not None:
            axes.errorbar(published[0], place, xerr=published[1], fmt="D", mfc="white", color="#888888", ms=5)
            axes.text(62.5, place, f"{published[0]:.2f}", va="center", ha="right", fontsize=7, color="#888888")
        _draw_measured(axes, place, measured.get(run))
    axes.axvline(50, color="black", ls="--", lw=0.8)
    axes.set_yticks(range(len(ROWS)), [f"{network}: {optimiser}" for network, optimiser, _ in ROWS.values()])
    axes.invert_yaxis()
    highest = max([62.5, *(share.max() + 1 for share in measured.values() if share.notna().any())])
    axes.set(
        xlabel="parameters that help in an iteration (%, zeros left out)",
        xlim=(min([48, *(s.min() - 1 for s in measured.values())]), highest + 6),
    )
    axes.plot([], [], "D", mfc="white", color="#888888", label="Table 1 (recalled, not checked)")
    axes.plot([], [], "o", color=LOSS, label="measured: seeds, mean [90 %]")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, 1.1), ncols=2)
    sns.despine(figure)
    return figure


def _draw_measured(axes: Axes, place: int, share: pd.Series | None) -> None:
    if share is None:
        axes.text(50.2, place, "not measured at this scale", va="center", fontsize=7, color="#888888")
        return
    low, high = mean_interval(share.to_list())
    axes.plot([low, high] if len(share) > 1 else [], [place] * 2 if len(share) > 1 else [], color=LOSS, lw=4, alpha=0.35)
    axes.plot(share, [place] * len(share), "o", color=LOSS, ms=3)
    axes.annotate(f"{share.mean():.2f}", (1, place), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=8, color=LOSS)
