import numpy as np
import pytest
import torch
from golden import golden
from sklearn.decomposition import PCA
from tiny_landscape import tiny
from torch import Tensor

from replication.errors import ReplicationError
from replication.landscape import trajectories
from replication.landscape.trajectories import captured_variance, project, random_walk_control, trajectory_plane
from replication.objective import flat_parameters, layout_of


@pytest.fixture
def path(generator: torch.Generator) -> Tensor:
    """Twelve checkpoints of 383 parameters, a decaying walk."""
    steps = torch.randn(12, 383, generator=generator, dtype=torch.float64) * torch.linspace(1, 0.1, 12)[:, None]
    return 3 + steps.cumsum(0)


def synthetic_checkpoints() -> Tensor:
    rows = []
    for k in range(7):
        model = tiny(shift=1.2 * (1 - k / 6) ** 2, zero_filter=False)
        with torch.no_grad():
            model.fc.weight += 0.05 * torch.sin(torch.arange(30.0) * (k + 1)).reshape(5, 6) * (6 - k) / 6
        rows.append(flat_parameters(model).float())
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plane_equals_the_official_one(dtype: torch.dtype) -> None:
    expected = golden("landscape.json")["pca_weights_ignore=none"]
    plane = trajectory_plane(synthetic_checkpoints().to(dtype))
    np.testing.assert_allclose(plane.explained_variance_ratio[:2], expected["evr"], atol=1e-6)
    np.testing.assert_allclose(plane.explained_variance[:2], expected["ev"], rtol=1e-5)
    np.testing.assert_allclose((6 * plane.explained_variance[:2]).sqrt(), expected["sv"], rtol=1e-5)
    for column, key in enumerate("xy"):
        coordinates = plane.coordinates[:, column].numpy()
        sign = np.sign(coordinates @ np.array(expected[key]))
        np.testing.assert_allclose(sign * coordinates, expected[key], atol=1e-5)


@pytest.mark.parametrize("kind", ["float64", "float32", "numpy", "memory map", "list"])
def test_plane_equals_scikit_learn(kind: str, path: Tensor, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectories, "_COLUMNS", 100)
    given = {"float64": path, "float32": path.float(), "numpy": path.numpy(), "list": list(path), "memory map": None}[kind]
    if given is None:
        np.save(tmp_path / "path.npy", path.numpy())
        given = np.load(tmp_path / "path.npy", mmap_mode="r")
    plane = trajectory_plane(given)
    rows = (path - path[-1]).numpy()
    pca = PCA().fit(rows)
    atol = 1e-5 if kind == "float32" else 1e-10
    np.testing.assert_allclose(plane.explained_variance, pca.explained_variance_, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(plane.explained_variance_ratio, pca.explained_variance_ratio_, rtol=1e-4, atol=1e-8)
    for number, direction in enumerate((plane.direction_x, plane.direction_y)):
        component = pca.components_[number]
        component = component * np.sign(component[np.abs(component).argmax()])
        np.testing.assert_allclose(direction, component, atol=atol)
        np.testing.assert_allclose(plane.coordinates[:, number], rows @ component, atol=100 * atol)
    assert not plane.coordinates[-1].any()


@pytest.mark.parametrize("final_row", [True, False])
def test_without_centring_it_is_the_singular_value_decomposition(final_row: bool, path: Tensor) -> None:
    plane = trajectory_plane(path, centring=False, final_row=final_row)
    rows = (path - path[-1])[: len(path) if final_row else -1]
    _, singular, axes = torch.linalg.svd(rows, full_matrices=False)
    torch.testing.assert_close(plane.explained_variance, singular**2 / (len(rows) - 1), atol=1e-9, rtol=1e-9)
    assert abs(plane.direction_x @ axes[0]).item() == pytest.approx(1, abs=1e-10)
    assert plane.coordinates.shape == (12, 2)


def test_biases_and_batch_norm_are_left_out_when_told() -> None:
    layout, path = layout_of(tiny()), synthetic_checkpoints().double()
    plane = trajectory_plane(path, ignore="biasbn", layout=layout)
    kept = torch.cat([torch.full((slot.stop - slot.start,), len(slot.shape) > 1) for slot in layout])
    assert not plane.direction_x[~kept].any()
    np.testing.assert_allclose(plane.explained_variance_ratio, PCA().fit(path[:, kept]).explained_variance_ratio_, atol=1e-10)


def test_directions_are_orthonormal_with_a_positive_largest_entry(path: Tensor) -> None:
    plane = trajectory_plane(path)
    both = torch.stack([plane.direction_x, plane.direction_y])
    torch.testing.assert_close(both @ both.T, torch.eye(2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert all(direction[direction.abs().argmax()] > 0 for direction in both)


def test_least_squares_coordinates_of_directions_that_are_not_orthogonal() -> None:
    """Numbers of the official code's projection."""
    k = torch.arange(20, dtype=torch.float64)
    a, b, c = torch.sin(k), torch.cos(k / 2), torch.linspace(-1, 1, 20, dtype=torch.float64)
    rows = torch.stack([a, a, torch.zeros_like(a)])
    np.testing.assert_allclose(project(rows, [b, c])[0], [0.19365, -0.18184], atol=1e-5)
    assert (project(rows, [b])[0] * b.norm()).item() == pytest.approx(0.7416, abs=1e-4)
    assert (project(rows, [c])[0] * c.norm()).item() == pytest.approx(-0.6366, abs=1e-4)


def test_captured_variance_is_the_ratio_for_principal_axes_and_two_in_n_for_random_ones(path: Tensor, generator: torch.Generator) -> None:
    plane = trajectory_plane(path)
    share = captured_variance(path, [plane.direction_x + plane.direction_y, plane.direction_y])
    assert share == pytest.approx(plane.explained_variance_ratio[:2].sum().item(), rel=1e-9)
    shares = [captured_variance(path, list(torch.randn(2, 383, generator=generator))) for _ in range(100)]
    assert np.mean(shares) == pytest.approx(2 / 383, rel=0.25)


def test_random_walks_put_three_quarters_of_their_variance_into_two_axes() -> None:
    """In theory 6 / pi^2 and a quarter of it; without centring 81.3 % and 9.0 %, from drawn walks."""
    steps, generator = torch.ones(300, dtype=torch.float64), torch.Generator().manual_seed(0)
    centred = random_walk_control(steps, 5000, generator=generator, walks=2)
    np.testing.assert_allclose(centred[:2], [6 / np.pi**2, 1.5 / np.pi**2], atol=0.01)
    uncentred = random_walk_control(steps, 5000, generator=generator, walks=2, centring=False)
    np.testing.assert_allclose(uncentred[:2], [0.813, 0.09], atol=0.01)


@pytest.mark.parametrize("n_parameters", [8, 40])
def test_the_control_is_the_plane_of_drawn_walks(n_parameters: int, generator: torch.Generator) -> None:
    """The Wishart shortcut against walks that are drawn, in dimensions below and above the number of steps."""
    steps = torch.linspace(1, 2, 11, dtype=torch.float64)
    shares = random_walk_control(steps, n_parameters, generator=generator, walks=400)
    drawn = []
    for _ in range(400):
        walk = (torch.randn(11, n_parameters, generator=generator, dtype=torch.float64) * steps[:, None]).cumsum(0)
        walk = torch.cat([torch.zeros(1, n_parameters), walk])
        drawn.append(PCA().fit(walk).explained_variance_ratio_[:3])
    np.testing.assert_allclose(shares[:3], np.mean(drawn, 0), atol=0.02)


def test_the_control_counts_the_final_row_where_the_plane_does(path: Tensor, generator: torch.Generator) -> None:
    assert trajectory_plane(path).random_walk.shape == (12,)
    assert trajectory_plane(path, final_row=False).random_walk.shape == (11,)
    steps = torch.tensor([1.0, 1.0, 1.0, 6.0])  # without its last row the walk loses its longest step
    control = random_walk_control(steps, 8, generator=generator, walks=400, final_row=False)
    drawn = []
    for _ in range(400):
        walk = (torch.randn(4, 8, generator=generator) * steps[:, None]).cumsum(0)
        drawn.append(PCA().fit(torch.cat([torch.zeros(1, 8), walk])[:-1]).explained_variance_ratio_)
    np.testing.assert_allclose(control, np.mean(drawn, 0), atol=0.02)


def test_wrong_arguments_give_one_sentence(path: Tensor) -> None:
    with pytest.raises(ReplicationError, match=r"shape \(2, 383\)"):
        trajectory_plane(path[:2])
    with pytest.raises(ReplicationError, match="lie on one line"):
        trajectory_plane(torch.arange(5.0)[:, None] * path[0])
    with pytest.raises(ReplicationError, match="2 of the 12 checkpoints are not finite"):
        trajectory_plane(torch.cat([path[:2] * float("nan"), path[2:]]))
    with pytest.raises(ReplicationError, match="layout"):
        trajectory_plane(path, ignore="biasbn")


def test_directions_may_be_arrays_and_lists(generator: torch.Generator) -> None:
    rows = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    directions = [rows[0] - rows[1], rows[2]]
    for form in (torch.Tensor.numpy, torch.Tensor.tolist):
        others = [form(direction) for direction in directions]
        assert torch.equal(project(rows, others), project(rows, directions))
        assert captured_variance(rows, others) == captured_variance(rows, directions)


def test_coordinates_in_directions_that_are_not_independent_are_least_squares() -> None:
    path = np.random.default_rng(0).standard_normal((5, 7))
    direction, zero = np.arange(7.0), np.zeros(7)
    alone = project(path, [direction])[:, 0]
    both = project(path, [direction, 2 * direction, zero])
    torch.testing.assert_close(both @ torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64), alone)
    assert not both[:, 2].any()
