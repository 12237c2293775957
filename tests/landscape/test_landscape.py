import copy
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import polynomial_objective
from golden import golden
from tiny_landscape import Tiny, flat, tiny, tiny_examples
from torch import Tensor

from replication import landscape
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.objective.vector import flat_buffers


def quadratic() -> Objective:
    """L(theta) = sum_i theta_i^2 + theta_i theta_{i+1}, at the origin."""
    return polynomial_objective(torch.ones(2, 3, dtype=torch.float64), degree=2)


def axis(index: int) -> Tensor:
    return torch.eye(3, dtype=torch.float64)[index]


def tiny_objective(model: Tiny, dtype: torch.dtype = torch.float64) -> Objective:
    return Objective(model, *tiny_examples(), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_surface_equals_the_official_one(dtype: torch.dtype) -> None:
    numbers = golden("landscape.json")
    objective, expected = tiny_objective(tiny(), dtype), numbers["surface_5x5"]
    draws = [flat(numbers[key]) for key in ("raw_seed123_full", "raw_seed123_second_full")]
    x, y = (landscape.normalised(draw, objective.parameters(), objective.layout) for draw in draws)
    table = landscape.surface(objective, x, y, expected["x"], expected["y"])
    np.testing.assert_allclose(landscape.as_grid(table, "loss")[0], expected["loss"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(100 * landscape.as_grid(table, "accuracy")[0], expected["acc"])


def test_the_centre_is_the_loss_of_the_network(generator: torch.Generator) -> None:
    objective = tiny_objective(tiny(), torch.float32)
    direction = landscape.random_direction(tiny(), generator)
    table = landscape.line(objective, direction, [-0.5, 0, 0.5])
    assert table["loss"][1] == pytest.approx(objective.value(objective.parameters()), rel=1e-6)
    assert list(table.columns) == ["alpha", "computed", "loss", "accuracy", "standard_error"]


def test_a_known_quadratic_on_a_grid_that_is_not_square() -> None:
    alphas, betas = np.linspace(-1, 1, 4), torch.tensor([-0.5, 0.0, 2.0])
    table = landscape.surface(quadratic(), axis(0), axis(1), alphas, betas)
    loss, columns, rows = landscape.as_grid(table, "loss")
    a, b = np.meshgrid(alphas, betas.numpy())
    np.testing.assert_allclose(loss, a**2 + b**2 + a * b, atol=1e-14)
    np.testing.assert_array_equal(columns, alphas)
    np.testing.assert_array_equal(rows, betas.numpy())
    assert table["alpha"].tolist()[:5] == [*alphas, -1.0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_even_odd_and_one_point_grids(count: int) -> None:
    table = landscape.surface(quadratic(), axis(0), axis(1), np.arange(count), [0.0])
    np.testing.assert_allclose(table["loss"], np.arange(count) ** 2)


def test_parts_and_goes_make_the_same_surface() -> None:
    objective, alphas, betas = quadratic(), [0.0, 1.0, 2.0], [0.0, 1.0]
    whole = landscape.surface(objective, axis(0), axis(1), alphas, betas)
    parts = [landscape.surface(objective, axis(0), axis(1), alphas, [beta]) for beta in betas]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    table, goes = None, 0
    while table is None or not table["computed"].all():
        table = landscape.surface(objective, axis(0), axis(1), alphas, betas, done=table, limit=4)
        table = pd.read_csv(io.StringIO(table.to_csv(index=False)))  # saved and read back
        goes += 1
    assert goes == 2
    pd.testing.assert_frame_equal(table, whole)


def test_every_point_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, calls = quadratic(), 0
    original = objective.evaluate

    def counted(theta: Tensor) -> object:
        nonlocal calls
        calls += 1
        return original(theta)

    monkeypatch.setattr(objective, "evaluate", counted)
    landscape.surface(objective, axis(0), axis(1), [0.0, 1.0], [0.0, 1.0])
    assert calls == 4


def test_points_once_computed_are_not_computed_again_even_if_not_finite() -> None:
    alphas = [0.0, 1e200, 2e200]
    seen: list[tuple[int, int]] = []
    table = landscape.line(quadratic(), axis(0), alphas, limit=2, progress=lambda done, of: seen.append((done, of)))
    assert table["computed"].tolist() == [True, True, False]
    assert np.isinf(table["loss"][1])
    assert np.isnan(table["loss"][2])
    table = landscape.line(quadratic(), axis(0), alphas, done=table, progress=lambda done, of: seen.append((done, of)))
    assert table["computed"].all()
    assert np.isinf(table["loss"][1:]).all()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_rescaled_network_has_the_same_normalised_surface_and_another_unnormalised_one(generator: torch.Generator) -> None:
    """LAND-C1: convolutions times c before batch norm, whose statistics follow, are the same function."""
    draws = torch.randn(2, 383, generator=generator)
    surfaces: dict[tuple[str | None, float], np.ndarray] = {}
    for c in (1.0, 10.0, 0.1):
        model = tiny().double()
        with torch.no_grad():
            for conv, norm in ((model.conv1, model.bn1), (model.conv2, model.bn2)):
                norm.eps = 0.0
                norm.running_mean *= c
                norm.running_var *= c**2
                for tensor in conv.parameters():
                    tensor *= c
        objective = tiny_objective(model)
        for normalise in ("filter", None):
            x, y = (landscape.normalised(draw, objective.parameters(), objective.layout, normalise) for draw in draws)
            surfaces[normalise, c] = landscape.surface(objective, x, y, [-1, 0, 1], [-1, 0, 1])["loss"].to_numpy()
    for c in (10.0, 0.1):
        np.testing.assert_allclose(surfaces["filter", c], surfaces["filter", 1.0], rtol=1e-9)
        assert np.abs(surfaces[None, c] - surfaces[None, 1.0]).max() > 0.5


def test_interpolation_ends_at_both_networks_and_moves_the_statistics() -> None:
    start, end = tiny(), tiny(shift=1.0)
    objective = tiny_objective(start)
    alphas = [-0.25, 0.0, 0.5, 1.0]
    table = landscape.interpolation(objective, start, end, alphas)
    assert table["loss"][1] == pytest.approx(objective.value(objective.parameters()), rel=1e-12)
    assert table["loss"][3] == pytest.approx(tiny_objective(end).value(tiny_objective(end).parameters()), rel=1e-12)
    middle = copy.deepcopy(start).double()
    with torch.no_grad():
        for tensor, other in zip(middle.state_dict().values(), end.state_dict().values(), strict=True):
            if tensor.is_floating_point():
                tensor.add_(0.5 * (other.double() - tensor))
    assert table["loss"][2] == pytest.approx(tiny_objective(middle).value(tiny_objective(middle).parameters()), rel=1e-12)
    frozen = landscape.interpolation(objective, start, end, alphas, statistics=False)
    assert frozen["loss"][1] == pytest.approx(table["loss"][1], rel=1e-12)
    assert abs(frozen["loss"][3] - table["loss"][3]) > 1e-3


class Masked(torch.nn.Module):
    """Differs from another one by its mask and by an option."""

    def __init__(self, mask: list[bool], eps: float = 1e-5) -> None:
        super().__init__()
        self.layer, self.norm = torch.nn.Linear(3, 2), torch.nn.LayerNorm(2, eps=eps)
        self.register_buffer("mask", torch.tensor(mask))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layer(x * self.mask))


def test_ends_that_differ_in_more_than_weights_are_refused() -> None:
    inputs, labels = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    start, alphas = Masked([True, True, False]), [0.0, 1.0]
    objective = Objective(start, inputs, labels)
    assert landscape.interpolation(objective, start, Masked([True, True, False]), alphas)["computed"].all()
    for end in (Masked([True, False, True]), Masked([True, True, False], eps=0.1)):
        with pytest.raises(ReplicationError, match=r"The network at alpha = 1 gives an example the loss .* differ in something else"):
            landscape.interpolation(objective, start, end, alphas)


def test_a_variance_extrapolated_below_zero_is_a_nan_that_counts_as_computed() -> None:
    start, end = tiny(), tiny()
    end.bn1.running_var.fill_(5.0)
    table = landscape.interpolation(tiny_objective(start), start, end, [-1.0, 0.0, 1.0])
    assert table["computed"].all()
    assert table["loss"].isna().tolist() == [True, False, False]


def test_the_networks_are_given_back_unchanged_also_after_an_exception(generator: torch.Generator) -> None:
    model = tiny().train()
    before = copy.deepcopy(model.state_dict())
    objective = Objective(model, *tiny_examples())
    landscape.line(objective, landscape.random_direction(model, generator), [-1, 1])
    landscape.interpolation(objective, model, tiny(1.0), [0.5])

    def stop(_done: int, _of: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        landscape.line(objective, landscape.random_direction(model, generator), [-1, 1], progress=stop)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(objective.buffers(), flat_buffers(model))


def test_wrong_arguments_give_one_sentence() -> None:
    objective = quadratic()
    for alphas in ([], [0.0, 0.0], [0.0, float("nan")], [1.0, 0.0], [[0.0, 1.0]]):
        with pytest.raises(ReplicationError, match="finite numbers in increasing order"):
            landscape.line(objective, axis(0), alphas)  # type: ignore[arg-type]
    with pytest.raises(ReplicationError, match=r"shape \(2,\)"):
        landscape.line(objective, torch.zeros(2), [0.0])
    with pytest.raises(ReplicationError, match="1 non-finite values"):
        landscape.surface(objective, axis(0), axis(1) / torch.tensor([1.0, 0.0, 1.0]).where(axis(1) == 0, 0), [0.0], [0.0])
    done = landscape.line(objective, axis(0), [0.0, 1.0])
    for other in (done[:1], done.assign(alpha=done["alpha"] + 1), done.drop(columns="loss")):
        with pytest.raises(ReplicationError, match="earlier table"):
            landscape.line(objective, axis(0), [0.0, 1.0], done=other)
    with pytest.raises(ReplicationError, match="networks differ"):
        landscape.interpolation(tiny_objective(tiny()), tiny(), torch.nn.Linear(2, 2), [0.0])


def test_directions_and_centres_may_be_arrays_and_lists() -> None:
    objective, alphas = quadratic(), [0.0, 1.0]
    expected = landscape.line(objective, axis(0), alphas, centre=axis(1))
    for form in (torch.Tensor.numpy, torch.Tensor.tolist):
        pd.testing.assert_frame_equal(landscape.line(objective, form(axis(0)), alphas, centre=form(axis(1))), expected)
    for wrong in ("x", [[1.0, 0.0, 0.0]], axis(0).to(torch.complex64)):
        with pytest.raises(ReplicationError, match=r"The direction is a .*give one vector of real numbers"):
            landscape.line(objective, wrong, alphas)


@pytest.mark.parametrize("form", [str, int, float, lambda flag: str(flag).upper()])
def test_what_was_computed_is_read_in_every_form(form: Callable[[bool], object]) -> None:
    whole = landscape.line(quadratic(), axis(0), [0.0, 1.0])
    half = landscape.line(quadratic(), axis(0), [0.0, 1.0], limit=1)
    stored = half.assign(computed=half["computed"].map(form))
    pd.testing.assert_frame_equal(landscape.line(quadratic(), axis(0), [0.0, 1.0], done=stored), whole)
    with pytest.raises(ReplicationError, match="'computed' has the entry 'yes'"):
        landscape.line(quadratic(), axis(0), [0.0, 1.0], done=half.assign(computed="yes"))


def test_files_and_limits_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    for file in (tmp_path, tmp_path / "empty.csv"):
        with pytest.raises(ReplicationError, match="holds no earlier table"):
            landscape.line(quadratic(), axis(0), [0.0, 1.0], save_to=file)
    for limit in (-1, 1.5):
        with pytest.raises(ReplicationError, match="The limit is"):
            landscape.line(quadratic(), axis(0), [0.0, 1.0], limit=limit)  # type: ignore[arg-type]


def test_a_table_of_another_direction_loss_or_data_is_refused(tmp_path: Path) -> None:
    file, alphas = tmp_path / "line.csv", [-1.0, 0.0, 1.0]
    landscape.line(quadratic(), axis(0) + axis(1), alphas, limit=2, save_to=file)
    other = polynomial_objective(torch.full((2, 3), 1.1, dtype=torch.float64), degree=2)
    for objective, direction in ((quadratic(), axis(0)), (other, axis(0) + axis(1))):
        with pytest.raises(ReplicationError, match=r"at alpha -1, and it is .* belongs to another network, direction"):
            landscape.line(objective, direction, alphas, save_to=file)
        with pytest.raises(ReplicationError, match="start without it"):
            landscape.line(objective, direction, alphas, done=pd.read_csv(file))
    whole = landscape.line(quadratic(), axis(0) + axis(1), alphas, save_to=file)
    pd.testing.assert_frame_equal(whole, landscape.line(quadratic(), axis(0) + axis(1), alphas))
    pd.testing.assert_frame_equal(whole, pd.read_csv(file))


def test_tables_that_agree_in_a_corner_alone_are_refused(tmp_path: Path) -> None:
    end, alphas = tiny(shift=1.0), [0.0, 0.5, 1.0]
    for start in (tiny(), tiny(shift=0.5)):
        done = landscape.interpolation(tiny_objective(end), start, end, alphas)
        with pytest.raises(ReplicationError, match="belongs to another network"):
            landscape.interpolation(tiny_objective(end), tiny(shift=0.2), end, alphas, done=done)
    frozen = landscape.interpolation(tiny_objective(end), tiny(), end, alphas, statistics=False)
    with pytest.raises(ReplicationError, match="belongs to another network"):
        landscape.interpolation(tiny_objective(end), tiny(), end, alphas, done=frozen)
    transposed = landscape.surface(quadratic(), axis(0), axis(0) + axis(1), [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])
    with pytest.raises(ReplicationError, match="belongs to another network"):
        landscape.surface(quadratic(), axis(0) + axis(1), axis(0), [-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0], done=transposed)


def test_an_interrupt_loses_one_point(tmp_path: Path) -> None:
    file, objective = tmp_path / "surface.csv", quadratic()

    def stop(done: int, _of: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        landscape.surface(objective, axis(0), axis(1), [0.0, 1.0], [0.0, 1.0], progress=stop, save_to=file)
    assert pd.read_csv(file)["computed"].tolist() == [True, True, True, False]
    table = landscape.surface(objective, axis(0), axis(1), [0.0, 1.0], [0.0, 1.0], save_to=file)
    assert table["computed"].all()
