"""Every benchmark can be imported and says how it is run; ratios become a table and a picture that name the processor."""

import ast
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from conftest import ROOT

from replication.files.provenance import processor

PROGRAMS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_benchmark_finds_what_it_imports_and_says_how_it_is_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(path.parent))
    names = runpy.run_path(str(path))
    assert "main" in names
    assert f"python benchmarks/{path.name}" in names["__doc__"]


@pytest.mark.parametrize("name", ["lca", "svcca", "stiffness", "landscape", "training"])
def test_a_benchmark_of_make_benchmarks_names_the_processor_and_keeps_ratios(name: str) -> None:
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert {"processor", "keep"} <= called
    assert f"benchmarks/{name}.py" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_ratios_become_a_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(ROOT / "benchmarks/ratios.py"))
    names["keep"]("LCA", "a gradient", {"plain": 1.5, "a peer": 12.0})
    names["keep"]("SVCCA", "a pair", {"plain": 2.0})
    table = pd.read_csv(names["TABLE"])
    assert table["ratio"].tolist() == [1.5, 12.0, 2.0]
    assert table["machine"].str.startswith(processor()).all()
    figure = names["draw"](table)
    assert processor() in figure.get_suptitle()
    plt.close(figure)
