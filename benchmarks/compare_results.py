"""Compare two folders of results number by number: does a change of the code change any table, quantity or verdict?

    python benchmarks/compare_results.py OLD NEW        # for instance results/smoke of two checkouts

Compared bit by bit: tables and quantities (.csv), parts and kept weights (.npz, .npy, .safetensors), and verdicts (.verdicts.json).
Not compared: provenance (times, commits, fingerprints), pictures, logs and times. A file that is in one folder only is a difference.
Texts of verdicts are listed apart from their numbers. Prints what differs and ends with 1 if a number does, else with 0.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

TIMES = {"seconds", "seconds_per_step", "created", "time"}  # columns and keys that tell how long something took, or when
TEXTS = {"basis", "breaks", "discrepancy", "published", "statement", "title", "reproduces", "amendments"}


def main() -> int:
    """Compare the folders of the command line; the exit status."""
    parser = argparse.ArgumentParser(description="Compare two folders of results number by number.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    numbers, texts, counts = compare(options.old, options.new)
    for line in [*numbers, *(f"{line} (a text only)" for line in texts)]:
        print(line)
    print("compared:", ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items())) or "nothing")
    print(f"{len(numbers)} differences of numbers, {len(texts)} of texts")
    return 1 if numbers or not counts else 0


def compare(old: Path, new: Path) -> tuple[list[str], list[str], Counter[str]]:
    """Sentences on numbers that differ, sentences on texts that differ, and how many files of each kind were compared."""
    names = {folder: {str(path.relative_to(folder)) for path in folder.rglob("*") if _kind(path)} for folder in (old, new)}
    numbers = [f"{name}: only in the old folder" for name in sorted(names[old] - names[new])]
    numbers += [f"{name}: only in the new folder" for name in sorted(names[new] - names[old])]
    texts: list[str] = []
    counts: Counter[str] = Counter()
    for name in sorted(names[old] & names[new]):
        kind = _kind(old / name)
        counts[kind] += 1
        if (old / name).read_bytes() == (new / name).read_bytes():
            continue
        for place, difference in COMPARISONS[kind](old / name, new / name):
            (texts if kind == "verdicts" and place.rpartition(".")[2] in TEXTS else numbers).append(f"{name}: {place}: {difference}")
    return numbers, texts, counts


def _kind(path: Path) -> str:
    """Which comparison a file gets; empty for one that is not compared."""
    if not path.is_file() or ".snakemake" in path.parts:
        return ""
    return next((kind for kind, suffixes in SUFFIXES.items() if path.name.endswith(suffixes)), "")


def tables(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """Columns of two tables that differ."""
    before, after = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (old, new))
    if list(before) != list(after):
        yield "columns", f"{list(before)} became {list(after)}"
    if len(before) != len(after):
        yield "rows", f"{len(before)} became {len(after)}"
        return
    for column in [name for name in before if name in after and name not in TIMES]:
        differs = before[column] != after[column]
        if differs.any():
            yield column, _difference(before.loc[differs, column].tolist(), after.loc[differs, column].tolist(), len(before))


def arrays(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """Arrays that differ: one of a .npy file, by name of the others."""
    before, after = (_arrays_of(path) for path in (old, new))
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield name, "only in the " + ("old file" if name in before else "new file")
        elif before[name].shape != after[name].shape or before[name].dtype != after[name].dtype:
            yield name, f"{before[name].dtype}{before[name].shape} became {after[name].dtype}{after[name].shape}"
        elif before[name].tobytes() != after[name].tobytes():
            unequal = before[name] != after[name]  # a nan differs from itself: where both are nan, nothing changed
            unequal &= ~((before[name] != before[name]) & (after[name] != after[name]))
            yield name, _difference(before[name][unequal].tolist(), after[name][unequal].tolist(), before[name].size)


def verdicts(old: Path, new: Path) -> Iterator[tuple[str, str]]:
    """Entries of two files of verdicts that differ, by claim and key."""
    before, after = (_entries(json.loads(path.read_text(encoding="utf-8"))) for path in (old, new))
    for place in sorted(before.keys() | after.keys()):
        old_value, new_value = before.get(place, "missing"), after.get(place, "missing")
        if repr(old_value) != repr(new_value):
            yield place, f"{old_value!r} became {new_value!r}"


def _entries(stored: dict[str, Any]) -> dict[str, Any]:
    """``claim.key`` and ``key`` of the whole file to their values."""
    entries = {key: value for key, value in stored.items() if key != "verdicts" and key not in TIMES}
    for verdict in stored["verdicts"]:
        entries |= {f"{verdict['id']}.{key}": value for key, value in verdict.items()}
    return entries


def _arrays_of(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        return load_file(path)
    stored = np.load(path, allow_pickle=False)
    return {"array": np.asarray(stored)} if path.suffix == ".npy" else {name: stored[name] for name in stored.files}


def _difference(old: list[Any], new: list[Any], of: int) -> str:
    """How many values differ, the first pair, and the largest relative difference where they are numbers."""
    sentence = f"{len(old)} of {of} values differ" + (f", first {old[0]!r} and {new[0]!r}" if old else " in bits that compare equal")
    try:
        one, other = np.array(old, dtype=np.float64), np.array(new, dtype=np.float64)
    except (TypeError, ValueError):
        return sentence
    scale = np.maximum(np.abs(one), np.abs(other))
    known = np.isfinite(scale) & (scale > 0)
    return sentence + (f", largest relative difference {np.max(np.abs(one - other)[known] / scale[known]):.2g}" if known.any() else "")


SUFFIXES: dict[str, tuple[str, ...]] = {
    "tables": (".csv",),
    "arrays": (".npz", ".npy", ".safetensors"),
    "verdicts": (".verdicts.json",),
}
COMPARISONS: dict[str, Callable[[Path, Path], Iterator[tuple[str, str]]]] = {"tables": tables, "arrays": arrays, "verdicts": verdicts}

if __name__ == "__main__":
    raise SystemExit(main())
