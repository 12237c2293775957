"""The picture at the top of the README: panels that need results which no clone has."""

import importlib.util
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from figures.style import Tables

SCRIPT = Path("docs/images/hero.py")


@pytest.fixture(scope="module")
def hero() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hero", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bowls() -> Tables:
    """A bowl around a network with shortcuts, and a steeper one without."""
    axis = np.linspace(-1, 1, 9)
    alpha, beta = (each.ravel() for each in np.meshgrid(axis, axis))
    surfaces = [
        pd.DataFrame({"seed": 0, "run": run, "alpha": alpha, "beta": beta, "computed": True, "loss": steepness * (alpha**2 + beta**2)})
        for run, steepness in (("resnet56", 5.0), ("resnet56_noshort", 9.0))
    ]
    networks = pd.DataFrame({"seed": 0, "run": ["resnet56", "resnet56_noshort"], "split": "test", "step": 10, "accuracy": [0.9, 0.75]})
    return {"depth_surfaces": {"surface": pd.concat(surfaces), "networks": networks}}


def test_both_landscapes_are_drawn_with_the_published_radius(hero: ModuleType, bowls: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hero, "tables_of", lambda paper, name: (bowls, "reduced scale"))
    figure, panels = plt.subplots(1, 2)
    hero.draw_landscapes(panels)
    assert [axes.get_xlabel() for axes in panels] == ["test error 10.0 %", "test error 25.0 %"]
    assert all(axes.collections for axes in panels), "contours"
    assert [patch.radius for patch in panels[0].patches] == [0.245]
    plt.close(figure)


def test_a_panel_without_tables_says_so(hero: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hero, "PLACES", ())
    figure = hero.draw()
    texts = [text.get_text() for sub in figure.get_axes() for text in sub.texts]
    assert texts.count("no tables yet") == 3, "the layers and both landscapes; the other panels show published values"
    plt.close(figure)
