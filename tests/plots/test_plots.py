"""Plots draw the numbers that the instruments returned, in axes that say what they are."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_mlp
from matplotlib.axes import Axes
from torch import Tensor, nn

from replication import curvature, landscape, lca, plots, stiffness, svcca
from replication.errors import ReplicationError
from replication.objective import Objective

Examples = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture
def objective(examples: Examples) -> Objective:
    return Objective(small_mlp(nn.Tanh), *examples)


def grid_of(function, points: int = 9) -> pd.DataFrame:
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, points), np.linspace(-1, 1, points)))
    return pd.DataFrame({"alpha": x, "beta": y, "computed": True, "loss": function(x, y)})


def labelled(ax: Axes) -> bool:
    return bool(ax.get_xlabel() and ax.get_ylabel())


def test_layers_end_at_the_loss_change_and_start_at_zero(objective: Objective) -> None:
    theta = objective.parameters()
    path = [theta]
    for _ in range(3):
        path.append(path[-1] - 0.1 * objective.gradient(path[-1]))
    tables = lca.along(objective, torch.stack(path)).tables()
    ax = plots.layers(tables)
    *layers, total, _zero = ax.lines
    assert [line.get_label() for line in layers] == ["1", "3", "5"]
    assert all(line.get_xdata().tolist() == [0, 1, 2, 3] and line.get_ydata()[0] == 0 for line in layers)
    assert total.get_ydata()[-1] == pytest.approx(objective.value(path[-1]) - objective.value(theta), abs=1e-4)
    assert labelled(ax)


def test_many_layers_have_two_names_in_the_legend() -> None:
    table = pd.DataFrame({"step": 0, "layer": [f"layer{number}" for number in range(30)], "lca": -0.1})
    names = plots.layers({"layers": table}).get_legend_handles_labels()[1]
    assert names == ["layer0", "layer29", "all layers"]


def test_similarity_keeps_the_order_of_the_layers(generator: torch.Generator) -> None:
    x = torch.randn(50, 4, generator=generator)
    layers = {"z_first": x, "a_second": x[:, :2] + torch.randn(50, 2, generator=generator)}
    table = svcca.similarity_matrix(layers, measure="cca")
    ax = plots.similarity(table)
    np.testing.assert_allclose(ax.images[0].get_array(), table["similarity"].to_numpy().reshape(2, 2))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["z_first", "a_second"]
    assert not ax.yaxis_inverted()
    assert ax.images[0].get_clim() == (0, 1)
    assert labelled(ax)
    with pytest.raises(ReplicationError, match="more than once"):
        plots.similarity(pd.concat([table, table]))


def test_stiffness_takes_every_form_of_the_matrix(examples: Examples) -> None:
    images, labels = examples
    gram = stiffness.gram(small_mlp(), images, labels, per_layer=False)[stiffness.TOTAL]
    matrix = stiffness.class_matrix(gram, labels, "cosine")
    for given in (matrix, matrix.table(), matrix.mean, matrix.mean.numpy(), pd.DataFrame(matrix.mean.numpy())):
        ax = plots.stiffness(given, colorbar=False)
        np.testing.assert_allclose(ax.collections[0].get_array(), matrix.mean)
        assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
        assert ax.yaxis_inverted()
    assert labelled(ax)
    with pytest.raises(ReplicationError, match=r"shape \(3, 3\), and 2 classes are named"):
        plots.stiffness(matrix, classes=["a", "b"])


def test_a_line_with_its_error_and_its_gaps(objective: Objective, generator: torch.Generator) -> None:
    direction = landscape.random_direction(small_mlp(nn.Tanh), generator)
    table = landscape.line(objective, direction, [-1.0, 0.0, 1.0])
    ax = plots.line(table, label="mine", color="red")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), table["loss"])
    assert len(ax.collections) == 1, "the band of the standard error"
    table.loc[0, "loss"] = np.nan
    plots.line(table, column="loss", ax=ax)
    assert "1 point is not finite" in ax.get_legend_handles_labels()[1]
    table.loc[0, "computed"] = False
    assert plots.line(table).get_legend_handles_labels()[1] == [], "a point that was not computed is not missing"


def test_contours_lie_where_the_loss_has_their_level() -> None:
    ax = plots.surface(grid_of(lambda x, y: 1 + x**2 + y**2, 41), levels=np.array([1.25, 2.0]), path=torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    circle, edge = ax.collections[0].get_paths()
    np.testing.assert_allclose(np.hypot(*circle.vertices.T), 0.5, atol=0.01)
    np.testing.assert_allclose(np.hypot(*edge.vertices.T), 1.0, atol=0.01)
    assert labelled(ax)
    assert "training" in ax.get_legend_handles_labels()[1]


def test_levels_are_logarithmic_for_a_wide_range_only() -> None:
    wide = plots.surface(grid_of(lambda x, y: np.exp(5 * x))).collections[0].levels
    np.testing.assert_allclose(np.diff(np.log(wide)), np.log(wide[1] / wide[0]))
    narrow = plots.surface(grid_of(lambda x, y: x)).collections[0].levels
    np.testing.assert_allclose(np.diff(narrow), narrow[1] - narrow[0])
    with pytest.raises(ReplicationError, match="no logarithm"):
        plots.surface(grid_of(lambda x, y: x), logarithmic=True)
    assert plots.surface(grid_of(lambda x, y: 0 * x)), "a flat surface"


def test_points_that_are_not_finite_are_hatched() -> None:
    ax = plots.surface(grid_of(lambda x, y: np.where(x > 0.4, np.inf, x**2 + y**2)))
    assert any("xxx" in (contours.hatches or []) for contours in ax.collections if hasattr(contours, "hatches"))
    assert plots.surface(grid_of(lambda x, y: np.full_like(x, np.nan))), "nothing finite at all"


def test_three_dimensions_say_what_is_clipped() -> None:
    ax = plots.surface_3d(grid_of(lambda x, y: 6 * (x**2 + y**2)))
    assert ax.get_zlim() == (np.log(0.1), np.log(10.1))
    assert ax.texts[0].get_text() == "4 of 81 points lie above 10 and are drawn at it."
    ax = plots.surface_3d(grid_of(lambda x, y: x - 3), ceiling=None)
    assert ax.get_zlabel() == "loss"
    assert ax.get_zlim() == (-4, -2)
    with pytest.raises(ReplicationError, match="axes are flat"):
        plots.surface_3d(grid_of(lambda x, y: x), ax=plt.figure().add_subplot())


def test_the_spectrum_is_the_density(objective: Objective) -> None:
    density = curvature.spectral_density(objective, probes=2, products=10)
    ax = plots.spectrum(density)
    curve, nodes = ax.lines[:2]
    highest = density["density"]["density"].max()
    np.testing.assert_allclose(curve.get_ydata(), np.maximum(density["density"]["density"], 1e-6 * highest))
    assert len(nodes.get_xdata()) == len(density["nodes"])
    assert labelled(ax)
    with pytest.raises(ReplicationError, match="not finite"):
        plots.spectrum(pd.DataFrame({"eigenvalue": [np.nan], "density": [np.nan]}))


@pytest.mark.parametrize(
    "plot",
    [
        lambda ax: plots.layers({"layers": pd.DataFrame({"step": [0], "layer": ["a"], "lca": [-1.0]})}, ax=ax),
        lambda ax: plots.similarity(pd.DataFrame({"layer_a": ["a"], "layer_b": ["a"], "similarity": [1.0]}), ax=ax),
        lambda ax: plots.stiffness(np.eye(2), ax=ax),
        lambda ax: plots.line(pd.DataFrame({"alpha": [0.0, 1.0], "loss": [0.0, 1.0]}), ax=ax),
        lambda ax: plots.surface(grid_of(lambda x, y: x + y), ax=ax),
        lambda ax: plots.spectrum(pd.DataFrame({"eigenvalue": [0.0, 1.0], "density": [1.0, 2.0]}), ax=ax),
    ],
)
def test_given_axes_are_used_and_returned(plot) -> None:
    ax = plt.figure().add_subplot()
    assert plot(ax) is ax
    assert plt.get_fignums() == [ax.figure.number]


def test_a_table_of_another_kind_gives_one_sentence() -> None:
    other = pd.DataFrame({"a": [1.0]})
    for plot, column in ((plots.line, "alpha"), (plots.surface, "alpha"), (plots.spectrum, "eigenvalue"), (plots.similarity, "layer_a")):
        with pytest.raises(ReplicationError, match=f"no column '{column}'"):
            plot(other)
    with pytest.raises(ReplicationError, match=r"The tables are steps; give those of lca\.along"):
        plots.layers({"steps": other})


def test_tables_that_span_no_surface_give_one_sentence() -> None:
    bowl = grid_of(lambda x, y: x**2 + y**2 + 0.1, 3)
    cases = (
        (pd.concat([bowl, bowl[:3]]), "the point alpha -1, beta -1 more than once"),
        (bowl[bowl["alpha"] == 0], "1 alphas and 3 betas"),
        (bowl[:1], "1 alphas and 1 betas"),
    )
    for table, message in cases:
        for plot in (plots.surface, plots.surface_3d):
            with pytest.raises(ReplicationError, match=message):
                plot(table)
    for levels in ([2.0, 1.0], [1.0, 1.0], [], [[1.0]], [np.nan]):
        with pytest.raises(ReplicationError, match="in increasing order"):
            plots.surface(bowl, levels=np.array(levels))
    with pytest.raises(ReplicationError, match=r"shape \(0, 0\).*one or more"):
        plots.stiffness(np.zeros((0, 0)))


def test_lines_end_where_the_training_diverged() -> None:
    table = pd.DataFrame({"step": [0, 0, 1, 1, 2, 2], "layer": ["a", "b"] * 3, "lca": [-0.2, -0.1, np.nan, -0.1, -0.1, -0.1]})
    lines = plots.layers({"layers": table}).lines
    np.testing.assert_array_equal(lines[0].get_ydata(), [0, -0.2, np.nan, np.nan])
    np.testing.assert_allclose(lines[1].get_ydata(), [0, -0.1, -0.2, -0.3])
    np.testing.assert_array_equal(np.isnan(lines[2].get_ydata()), [False, False, True, True])
