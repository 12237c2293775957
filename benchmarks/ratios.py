"""What all benchmarks come to: how many times as fast as which peer, in one table and one picture.

Run: make benchmarks  (every benchmark appends its ratios to results/benchmarks/ratios.csv, this program draws them), or
python benchmarks/ratios.py [TABLE PICTURE]  for a table that is there. A ratio is of two things measured in the same run.
QUICK=1 makes every benchmark small, once, and in minutes: to see that all of them run. Its ratios are no results.
"""

import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from replication.files.provenance import processor

QUICK = os.environ.get("QUICK") == "1"
TABLE = Path(f"results/benchmarks/{'quick_' if QUICK else ''}ratios.csv")
COLUMNS = ["instrument", "case", "against", "ratio", "date", "machine"]


def machine_in_words() -> str:
    """Processor, its cores, its widest vectors, PyTorch."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return f"{processor()}, {os.cpu_count()} cores, {vectors}, torch {torch.__version__}, one thread"


def keep(instrument: str, case: str, ratios: Mapping[str, float]) -> None:
    """Append a row for every peer of ``ratios``: how many times as fast as it we are."""
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    today, machine = datetime.datetime.now(datetime.UTC).date().isoformat(), machine_in_words()
    rows = [[instrument, case, against, f"{ratio:.3g}", today, machine] for against, ratio in ratios.items()]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(TABLE, mode="a", header=not TABLE.exists(), index=False)


def draw(table: pd.DataFrame) -> Figure:
    """A row for every case, a mark for every peer; 1 is as fast as the peer. The machine stands above."""
    instruments = list(dict.fromkeys(table["instrument"]))
    cases = {name: list(dict.fromkeys(table.loc[table["instrument"] == name, "case"])) for name in instruments}
    heights = [len(each) + 1 for each in cases.values()]
    figure, panels = plt.subplots(
        len(instruments), figsize=(8, 0.24 * sum(heights) + 1.2), sharex=True, height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, (instrument, names) in zip(panels[:, 0], cases.items(), strict=True):
        for number, (against, rows) in enumerate(table[table["instrument"] == instrument].groupby("against", sort=False)):
            places = [names.index(case) for case in rows["case"]]
            axes.plot(rows["ratio"], places, "os^Dv"[number % 5], ms=5, color=f"C{number}", label=f"against {against}")
        axes.axvline(1, color="black", lw=0.8)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set(ylim=(len(names) - 0.5, -0.5), xscale="log")
        axes.set_title(instrument, fontsize=9, loc="left")
        axes.grid(axis="x", which="both", lw=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    panels[-1, 0].set_xlabel("times as fast (right of the line: faster than the peer)", fontsize=8)
    ticks = [0.5, 1, 2, 5, 10, 20, 50, 100]
    panels[-1, 0].set_xticks(ticks, [str(tick) for tick in ticks])
    panels[-1, 0].minorticks_off()
    figure.suptitle(f"{table['machine'].iloc[-1]}, {table['date'].iloc[-1]}", fontsize=8)
    return figure


def main() -> None:
    table, picture = (Path(word) for word in sys.argv[1:] or (TABLE, TABLE.with_suffix(".png")))
    draw(pd.read_csv(table)).savefig(picture, dpi=150)
    print(f"Ratios: {table}; drawn: {picture}")


if __name__ == "__main__":
    main()
