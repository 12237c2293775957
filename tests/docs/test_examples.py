"""The scripts and the notebook for a network of one's own run, say what they found and draw a picture; the README's code runs."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
PAGE = (ROOT / "docs" / "own_model.md").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], dict[str, Any]]:
    """Runs an example, and looks for its picture and the sentence that names it."""

    def run_example(name: str) -> dict[str, Any]:
        path, picture = ROOT / "examples" / f"{name}_own_model.py", tmp_path / f"{name}.png"
        monkeypatch.setattr(sys, "argv", [str(path), str(picture)])
        with torch.random.fork_rng():
            names = runpy.run_path(str(path))
        plt.close("all")
        assert picture.stat().st_size > 5_000
        assert capsys.readouterr().out.endswith(f"is {picture}.\n")
        return names

    return run_example


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_lca_allocates_the_whole_change_to_layers(run: Callable[[str], dict[str, Any]]) -> None:
    example = run("lca")
    assert list(example["by_layer"].index) == ["0", "2", "4"]
    assert example["by_layer"].sum() == pytest.approx(example["change"], rel=0.02)
    assert example["change"] < 0


def test_svcca_lies_between_its_noise_floor_and_one(run: Callable[[str], dict[str, Any]]) -> None:
    table = run("svcca")["table"]
    assert list(table["layer_a"]) == ["bn1", "layer1", "layer2", "fc"]
    assert (table["similarity"] > table["noise_floor"]).all()
    assert (table["similarity"] < 1).all()


def test_stiffness_within_classes_is_more_than_between_and_its_control_is_not(run: Callable[[str], dict[str, Any]]) -> None:
    example = run("stiffness")
    assert example["matrix"].within() > example["matrix"].between() + 0.2
    assert example["permuted"].within() == pytest.approx(example["permuted"].between(), abs=0.05)


def test_a_surface_has_the_networks_loss_at_its_centre(run: Callable[[str], dict[str, Any]]) -> None:
    example = run("landscape")
    objective = example["objective"]
    assert example["losses"][3, 3] == pytest.approx(objective.value(objective.parameters()), rel=1e-4)
    assert example["table"]["computed"].all()


def test_training_flattens_negative_curvature_of_a_regression(run: Callable[[str], dict[str, Any]]) -> None:
    example = run("curvature")
    assert example["ends"].smallest < example["ends"].largest
    losses = [example[name].value(example[name].parameters()) for name in ("untrained", "trained")]
    assert losses[1] < losses[0]


def test_examples_are_short_and_say_what_they_show() -> None:
    assert len(EXAMPLES) == 5
    for path in EXAMPLES:
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""'), path.name
        assert len(text.splitlines()) < 60, path.name
        assert path.name in PAGE


def test_the_readme_s_code_draws_its_picture(tmp_path: Path) -> None:
    own_network = runpy.run_path(str(ROOT / "docs/images/own_network.py"))
    names = own_network["run"](tmp_path)
    assert (tmp_path / "layers.png").stat().st_size > 5000
    assert len(own_network["code"]().splitlines()) <= 17
    change = names["tables"]["steps"]["loss_end"].iloc[-1] - names["tables"]["steps"]["loss_start"].iloc[0]
    assert names["tables"]["layers"]["lca"].sum() == pytest.approx(change, rel=0.02)
    plt.close("all")


def test_no_output_of_the_notebook_is_kept(cells: list[dict[str, Any]]) -> None:
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_the_code_of_the_notebook_runs(cells: list[dict[str, Any]]) -> None:
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        for cell in cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), "tour.ipynb", "exec"), names)  # noqa: S102 - our own file
    plt.close("all")
    assert names["by_layer"].sum() == pytest.approx(names["change"], rel=0.02)


def test_the_notebook_runs_in_a_kernel() -> None:
    reason = "nbclient and ipykernel run notebooks; they come with the extra `dev`"
    nbclient = pytest.importorskip("nbclient", reason=reason)
    pytest.importorskip("ipykernel", reason=reason)
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    assert all(cell["execution_count"] for cell in notebook.cells if cell["cell_type"] == "code")
