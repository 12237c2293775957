"""CONTRIBUTING.md: its recipes, followed in a copy of the project and run at smoke scale, and the files that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from checkout import copy_project
from conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\w+\n# (\S+?)(?:, (at the end|below ([^\n]+)))?\n(.*?)```", TEXT, flags=re.DOTALL)


def follow(project: Path, file: str, place: str, line: str, content: str) -> None:
    """Do what a block says: a new file, something at the end of a file, or something below a line."""
    path = project / file
    if not place:
        assert not path.exists(), file
        path.write_text(content, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if place == "at the end":
        path.write_text(f"{text}\n\n{content}", encoding="utf-8")
        return
    assert text.count(f"\n{line}\n") == 1, f"{file} has no line of its own that says {line}"
    path.write_text(text.replace(f"\n{line}\n", f"\n{line}\n{content}"), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which all recipes were followed."""
    copy = copy_project(tmp_path_factory.mktemp("contributing") / "checkout", ["lca_toy"])
    assert len(BLOCKS) == 8
    for file, place, line, content in BLOCKS:
        follow(copy, file, place, line, content)
    return copy


def test_a_new_model_measurement_and_figure_run_as_the_recipes_say(project: Path) -> None:
    # the copy's code comes first, also in the commands that Snakemake starts
    environment = os.environ | {"PYTHONPATH": str(project), "REPLICATION_DATA": "", "REPLICATION_OFFLINE": "1"}
    command = [sys.executable, "-m", "snakemake", "figure_my_figure", "--config", "scale=smoke"]
    ended = subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = project / "results" / "smoke" / "lca"
    losses = pd.read_csv(next(folder.glob("tables/my_measurement/seed0/losses.csv")))
    assert losses["loss"].iloc[-1] < losses["loss"].iloc[0], "the new model learns"
    quantities = pd.read_csv(folder / "figures" / "my_figure.quantities.csv")
    assert quantities["value"].tolist() == pytest.approx([losses["loss"].iloc[-1]])
    assert (folder / "figures" / "my_figure.png").stat().st_size > 5000


def test_ten_changes_each_name_one_file_that_exists() -> None:
    table = TEXT.partition("## Which file to change")[2].partition("\n## ")[0]
    files = re.findall(r"^\| .* \| `([^`]+)` \|$", table, flags=re.MULTILINE)
    assert len(files) == 10
    for file in files:
        pattern = re.sub(r"<\w+>", "*", file)
        assert any(ROOT.glob(pattern)), file


def test_every_package_has_its_line_in_the_design() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rooms = {path.stem for path in (ROOT / "replication").iterdir() if path.suffix in ("", ".py") and not path.name.startswith("__")}
    table = design.partition("| package | what it contains |")[2].partition("\n\n")[0]
    assert rooms == {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")}
