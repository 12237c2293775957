import itertools

import numpy as np
import pytest
import torch
from conftest import polynomial_objective, small_batch_norm_net, small_mlp
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from replication import lca
from replication.errors import ReplicationError
from replication.objective import Objective, Slot

Examples = tuple[Tensor, Tensor]


def walk(objective: Objective, steps: int, size: float = 0.05, seed: int = 3) -> Tensor:
    """Weights along gradient descent with noise: a trajectory on which parameters help and hurt."""
    generator = torch.Generator().manual_seed(seed)
    points = [objective.parameters()]
    for _ in range(steps):
        noise = torch.randn(objective.n_parameters, generator=generator, dtype=torch.float64)
        points.append(points[-1] - 4 * size * objective.gradient(points[-1]) + size * 0.2 * noise)
    return torch.stack(points)


@given(degree=st.sampled_from([2, 3]), seed=st.integers(0, 10_000), size=st.integers(1, 6))
def test_two_intervals_are_exact_for_quadratics_and_cubics(degree: int, seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    coefficients, start, end = (torch.randn(rows, size, generator=generator, dtype=torch.float64) for rows in (2, 1, 1))
    objective = polynomial_objective(coefficients, degree)
    allocation = lca.allocate(objective, start[0], end[0], max_error=1e-9)
    scale = 1 + abs(allocation.loss_start) + abs(allocation.loss_end) + allocation.change.abs().sum().item()
    assert allocation.intervals == 2
    assert abs(allocation.error) < 1e-13 * scale


def test_first_order_misses_half_the_curvature_of_a_quadratic(generator: torch.Generator) -> None:
    """L(end) - L(start) = g.d + d.H d / 2, so first order is wrong by d.H d / 2."""
    objective = polynomial_objective(torch.randn(2, 5, generator=generator, dtype=torch.float64), degree=2)
    start, movement = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    allocation = lca.allocate(objective, start, start + movement)
    curvature = movement @ objective.hessian_vector_product(start, movement) / 2
    missed = allocation.loss_end - allocation.loss_start - allocation.first_order.sum()
    assert missed.item() == pytest.approx(curvature.item(), abs=1e-12)


def test_allocations_of_a_smooth_net_sum_to_the_loss_change(examples: Examples) -> None:
    objective = Objective(small_mlp(nn.Softplus), *examples, dtype=torch.float64)
    start = objective.parameters()
    end = start - 0.5 * objective.gradient(start)
    allocation = lca.allocate(objective, start, end, max_error=1e-11)
    assert allocation.change.sum().item() == pytest.approx(objective.value(end) - objective.value(start), abs=1e-10)


def test_a_relu_net_meets_the_threshold_or_the_cap_and_reports_which(examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    start = objective.parameters()
    end = start + 0.1 * torch.randn(objective.n_parameters, generator=generator, dtype=torch.float64)
    tight = lca.allocate(objective, start, end, max_error=1e-15, max_intervals=16)
    assert tight.intervals == 16
    assert abs(tight.error) > 1e-15
    assert tight.error == pytest.approx(tight.loss_end - tight.loss_start - tight.change.sum().item(), abs=1e-15)
    loose = lca.allocate(objective, start, end, max_error=1e-3)
    assert abs(loose.error) <= 1e-3


def test_doubling_reuses_points_and_equals_composite_simpson(examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    start = objective.parameters()
    movement = torch.randn(objective.n_parameters, generator=generator, dtype=torch.float64)
    allocation = lca.allocate(objective, start, start + movement, max_error=1e-15, max_intervals=8)
    weights = torch.tensor([1, 4, 2, 4, 2, 4, 2, 4, 1], dtype=torch.float64) / 24
    gradients = torch.stack([objective.gradient(start + k / 8 * movement) for k in range(9)])
    torch.testing.assert_close(allocation.change, weights @ gradients * movement, rtol=1e-12, atol=1e-14)


def test_a_frozen_parameter_has_exactly_zero(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples)
    start = objective.parameters()
    end = start - 0.3 * objective.gradient(start)
    end[10:40] = start[10:40]
    assert (lca.allocate(objective, start, end).change[10:40] == 0).all()


def test_reversing_a_step_negates_it(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    start = objective.parameters()
    end = start - 0.5 * objective.gradient(start)
    forth, back = lca.allocate(objective, start, end), lca.allocate(objective, end, start)
    torch.testing.assert_close(forth.change, -back.change, rtol=0, atol=1e-15)


def test_small_steps_of_gradient_descent_help_everywhere(examples: Examples) -> None:
    """Full-batch descent with a rate that goes to zero: every A is at most 0 (LCA, section 3)."""
    objective = Objective(small_mlp(nn.Softplus), *examples, dtype=torch.float64)
    start = objective.parameters()
    assert (lca.allocate(objective, start, start - 1e-6 * objective.gradient(start)).change <= 0).all()


def test_batch_statistics_balance_the_books(examples: Examples) -> None:
    objective = Objective(small_batch_norm_net(nn.Softplus), *examples, batch_norm="batch", chunk=20, dtype=torch.float64)
    start = objective.parameters()
    end = start - 0.2 * objective.gradient(start)
    allocation = lca.allocate(objective, start, end, max_error=1e-8, max_intervals=64)
    assert abs(allocation.error) <= 1e-8


def test_along_equals_allocate_step_by_step(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    trajectory = walk(objective, 5)
    changes = torch.stack([lca.allocate(objective, a, b).change for a, b in itertools.pairwise(trajectory)])
    ledger = lca.along(objective, trajectory.numpy(), steps_at_once=2)
    np.testing.assert_allclose(ledger.totals, changes.sum(0), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(ledger.helping, (changes < 0).sum(0))
    np.testing.assert_array_equal(ledger.hurting, (changes > 0).sum(0))
    tables = ledger.tables()
    by_tensor = torch.stack([part.sum(1) for part in changes.split([s.stop - s.start for s in objective.layout], dim=1)], dim=1)
    np.testing.assert_allclose(tables["layers"]["lca"], by_tensor.flatten(), rtol=0, atol=1e-14)
    assert tables["histogram"]["count"].sum() + tables["elements"]["zeros"].item() == changes.numel()
    assert tables["histogram"]["sum"].sum() == pytest.approx(changes.abs().sum().item(), rel=1e-12)
    assert tables["elements"]["sum_of_fourth_powers"].item() == pytest.approx((changes**4).sum().item(), rel=1e-12)
    inside = tables["histogram"]
    assert (inside["sum"] / inside["count"]).between(inside["low"], inside["high"]).all()


def test_sums_do_not_depend_on_the_grouping(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples)
    tables = lca.along(objective, walk(objective, 4)).tables()
    by_step = tables["layers"].groupby("step")
    np.testing.assert_allclose(by_step["lca"].sum(), tables["steps"]["lca"], rtol=0, atol=1e-15)
    np.testing.assert_allclose(by_step["lca_shuffled"].sum(), tables["steps"]["lca_shuffled"], rtol=0, atol=1e-15)
    sizes = by_step["parameters"].sum()
    assert (by_step[["helping", "hurting", "zero"]].sum().sum(axis=1) == sizes).all()


@given(cut=st.integers(1, 5), at_once=st.integers(1, 4))
def test_spans_merge_to_the_whole_whatever_the_cut(cut: int, at_once: int) -> None:
    generator = torch.Generator().manual_seed(0)
    objective = Objective(small_mlp(), torch.randn(20, 16, generator=generator), torch.arange(20) % 3, dtype=torch.float64)
    trajectory = walk(objective, 6)
    whole = lca.along(objective, trajectory)
    spans = [lca.along(objective, trajectory, steps=part, steps_at_once=at_once) for part in (range(cut, 6), range(cut))]
    merged = lca.Ledger.merge(spans)
    for name, values in whole.arrays().items():
        if values.dtype.kind in "US":
            assert (merged.arrays()[name] == values).all()
        else:
            np.testing.assert_allclose(merged.arrays()[name], values, rtol=1e-12, atol=1e-15)


def test_spans_with_a_gap_do_not_merge(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples)
    trajectory = walk(objective, 3)
    first, last = (lca.along(objective, trajectory, steps=part) for part in (range(1), range(2, 3)))
    with pytest.raises(ReplicationError, match="every step once"):
        lca.Ledger.merge([first, last])
    with pytest.raises(ReplicationError, match="every step once"):
        lca.Ledger.merge([first, first])


def test_the_ledger_survives_its_file(examples: Examples, tmp_path) -> None:
    objective = Objective(small_mlp(), *examples)
    ledger = lca.along(objective, walk(objective, 2))
    np.savez(tmp_path / "ledger.npz", **ledger.arrays())
    with np.load(tmp_path / "ledger.npz", allow_pickle=False) as arrays:
        again = lca.Ledger.from_arrays(dict(arrays))
    assert all(table.equals(again.tables()[name]) for name, table in ledger.tables().items())


def test_shuffled_gradients_break_the_books(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples)
    steps = lca.along(objective, walk(objective, 10)).tables()["steps"]
    change = steps["loss_end"] - steps["loss_start"]
    assert abs(change.sum() - steps["lca"].sum()) < 1e-2 * abs(change.sum())
    assert abs(change.sum() - steps["lca_shuffled"].sum()) > 0.3 * abs(change.sum())


def test_memory_does_not_grow_with_the_steps(examples: Examples) -> None:
    """Beyond one row per step, the ledger holds the same arrays for two steps as for twenty."""
    objective = Objective(small_mlp(), *examples)
    trajectory = walk(objective, 20)
    sizes = []
    for count in (2, 20):
        arrays = lca.along(objective, trajectory, steps=range(count)).arrays()
        sizes.append(sum(a.nbytes for name, a in arrays.items() if name not in ("steps", "per_step", "statistics", "per_tensor")))
    assert sizes[0] == sizes[1]


def test_a_diverged_path_is_kept_and_counted(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples)
    trajectory = walk(objective, 3)
    trajectory[2, 5] = float("nan")
    tables = lca.along(objective, trajectory).tables()
    assert tables["steps"]["error"].isna().tolist() == [False, True, True]
    assert tables["steps"]["intervals"].tolist()[1:] == [2, 2]
    assert tables["elements"]["non_finite"].item() > 0
    assert np.isfinite(tables["elements"]["sum_of_squares"].item())


def test_wrong_arguments_give_one_sentence(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples)
    trajectory = walk(objective, 3)
    for steps in (range(0), range(2, 5), range(-1, 2), range(0, 3, 2)):
        with pytest.raises(ReplicationError, match=r"allowed: consecutive ones within range\(0, 3\)"):
            lca.along(objective, trajectory, steps=steps)
    with pytest.raises(ReplicationError, match="Row 0 of the trajectory"):
        lca.along(objective, trajectory[:, :-1])
    with pytest.raises(ReplicationError, match="max_error is 0"):
        lca.allocate(objective, trajectory[0], trajectory[1], max_error=0)
    with pytest.raises(ReplicationError, match="max_intervals 1"):
        lca.along(objective, trajectory, max_intervals=1)


def test_the_classes_shares_sum_to_the_whole(examples: Examples) -> None:
    for net, settings in ((small_mlp(), {}), (small_batch_norm_net(), {"batch_norm": "batch", "chunk": 20})):
        objective = Objective(net, *examples, dtype=torch.float64, **settings)
        trajectory = walk(objective, 4)
        allocation = lca.allocate(objective, *trajectory[:2], by_class=True)
        assert allocation.by_class.shape == (3, objective.n_parameters)
        torch.testing.assert_close(allocation.by_class.sum(0), allocation.change, rtol=0, atol=1e-14)
        split = lca.along(objective, trajectory, by_class=True).tables()
        plain = lca.along(objective, trajectory).tables()
        np.testing.assert_allclose(split["layers"]["lca"], plain["layers"]["lca"], rtol=0, atol=1e-13)
        by_layer = split["classes"].groupby(["step", "layer"])["lca"].sum()
        expected = plain["layers"].groupby(["step", "layer"])["lca"].sum()
        np.testing.assert_allclose(by_layer, expected.loc[by_layer.index], rtol=0, atol=1e-13)
        assert "classes" not in plain


def test_a_class_share_is_the_loss_change_of_that_class(examples: Examples) -> None:
    images, labels = examples
    trajectory = walk(Objective(small_mlp(nn.Softplus), images, labels, dtype=torch.float64), 3)
    whole = Objective(small_mlp(nn.Softplus), images, labels, dtype=torch.float64)
    table = lca.along(whole, trajectory, by_class=True, max_error=1e-9).tables()["classes"]
    for label in range(3):
        alone = Objective(small_mlp(nn.Softplus), images[labels == label], labels[labels == label], dtype=torch.float64)
        change = (alone.value(trajectory[-1]) - alone.value(trajectory[0])) * float((labels == label).double().mean())
        assert table.loc[table["class"] == label, "lca"].sum() == pytest.approx(change, abs=1e-8)


def test_the_validation_loss_is_allocated_in_the_same_pass(examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    others = Objective(small_mlp(), torch.randn(30, 1, 4, 4, generator=generator), torch.arange(30) % 3, dtype=torch.float64)
    trajectory = walk(objective, 5)
    tables = lca.along(objective, trajectory, validation=others).tables()
    alone = lca.along(others, trajectory).tables()
    plain = lca.along(objective, trajectory).tables()
    np.testing.assert_allclose(tables["layers"]["validation"], alone["layers"]["lca"], rtol=0, atol=1e-14)
    np.testing.assert_allclose(tables["steps"]["validation_loss_end"], alone["steps"]["loss_end"], rtol=0, atol=1e-14)
    assert tables["layers"].drop(columns="validation").equals(plain["layers"].drop(columns="validation"))
    assert plain["layers"]["validation"].isna().all()


@pytest.mark.parametrize("at_once", [1, 2])
def test_turns_are_counted_by_their_definition_also_across_spans(examples: Examples, at_once: int) -> None:
    """Strictly negative products of consecutive movements, and of the gradients at both ends of a step (old plot_util)."""
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    trajectory = walk(objective, 9)
    movements = trajectory.diff(dim=0)
    gradients = torch.stack([objective.gradient(point) for point in trajectory])
    turned = (movements[1:] * movements[:-1] < 0).sum(0), (gradients[1:] * gradients[:-1] < 0).sum(0)
    spans = [lca.along(objective, trajectory, steps=part, steps_at_once=at_once) for part in (range(4), range(4, 9))]
    table = lca.Ledger.merge(spans).tables()["oscillation"]
    for name, counts in zip(("weight_turns", "gradient_turns"), turned, strict=True):
        assert table[name].tolist() == [counts[slot.slice].sum().item() for slot in objective.layout]
    assert (table["steps"] == 9).all()


def test_the_traced_layer_s_extremes_are_followed_one_by_one(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    trajectory = walk(objective, 8)
    spans = [lca.along(objective, trajectory, steps=part, trace=("5", range(2, 7))) for part in (range(4), range(4, 8))]
    table = lca.Ledger.merge(spans).tables()["traces"]
    changes = torch.stack([lca.allocate(objective, a, b).change for a, b in itertools.pairwise(trajectory)])[2:7]
    last = slice(objective.layout[-2].start, objective.layout[-1].stop)
    net = changes[:, last].sum(0)
    for role, chosen in (("most helping", net.argmin()), ("most hurting", net.argmax())):
        rows = table[table["role"] == role]
        assert rows["step"].tolist() == [2, 3, 4, 5, 6]
        np.testing.assert_allclose(rows["lca"], changes[:, last][:, chosen], rtol=0, atol=1e-14)
        np.testing.assert_allclose(rows["weight"], trajectory[2:7, last][:, chosen], rtol=0, atol=0)
        np.testing.assert_allclose(rows["gradient"], [objective.gradient(p)[last][chosen] for p in trajectory[2:7]], rtol=1e-10)
    with pytest.raises(ReplicationError, match="There is no layer 'fc' to trace; allowed: 1, 3, 5"):
        lca.along(objective, trajectory, trace=("fc", range(2)))


def test_parameters_are_binned_by_their_share_of_helping_iterations(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    ledger = lca.along(objective, walk(objective, 10))
    tables = ledger.tables()
    shares = tables["parameters"]
    active = (ledger.helping + ledger.hurting) >= 5
    assert shares["parameters"].sum() == active.sum()
    assert shares["coins"].sum() == pytest.approx(active.sum())
    measured = 100 * ledger.helping[active] / (ledger.helping + ledger.hurting)[active]
    np.testing.assert_array_equal(shares["parameters"], np.histogram(measured, np.linspace(0, 100, 201))[0])
    concentration = tables["concentration"].set_index("of")
    assert concentration.loc["parameters", "number"] == (ledger.totals < 0).sum()
    assert 0 < concentration.loc["elements", "gini"] < 1


def test_no_step_uses_more_intervals_than_allowed(examples: Examples) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    for max_intervals in (2, 4):
        table = lca.along(objective, walk(objective, 2), max_error=1e-15, max_intervals=max_intervals).tables()["steps"]
        assert table["intervals"].tolist() == [max_intervals] * 2


def test_zeros_neither_help_nor_hurt_nor_turn() -> None:
    """Two of four parameters do not move, or have no gradient at one end of the step."""
    layout = (Slot("weight", "", torch.Size([4]), 0, 4),)
    ledger = lca.Ledger.empty(layout, range(0, 2))
    movement = torch.tensor([1.0, -1.0, 0.0, 1.0], dtype=torch.float64)
    gradient = torch.tensor([2.0, 2.0, 2.0, 0.0], dtype=torch.float64)
    allocation = lca.Allocation(
        change=gradient * movement,
        error=0.0,
        intervals=2,
        loss_start=0.0,
        loss_end=0.0,
        gradient_start=gradient,
        gradient_end=-gradient,
        mean_gradient=gradient,
        movement=movement,
    )
    ledger.enter(0, allocation, torch.arange(4), None)
    ledger.enter(1, allocation, torch.arange(4), torch.tensor([0.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    assert (ledger.helping.tolist(), ledger.hurting.tolist()) == ([0, 2, 0, 0], [2, 0, 0, 0])
    row = ledger.tables()["layers"].iloc[1]
    assert row[["helping", "hurting", "zero", "helping_shuffled", "hurting_shuffled"]].tolist() == [1, 1, 2, 1, 1]
    assert ledger.tables()["oscillation"][["weight_turns", "gradient_turns"]].to_numpy().tolist() == [[1, 6]]


def test_a_parameter_is_active_from_half_of_the_iterations_on() -> None:
    """Of four parameters active in 1, 2, 3 and 4 of four iterations, the last three count."""
    ledger = lca.Ledger.empty((Slot("weight", "", torch.Size([4]), 0, 4),), range(0, 4))
    ledger.per_step[:] = ledger.per_tensor[:] = 0
    ledger.helping[:], ledger.hurting[:] = [1, 1, 2, 4], [0, 1, 1, 0]
    shares = ledger.tables()["parameters"]
    assert shares["parameters"].sum() == 3
    assert shares.loc[shares["parameters"] > 0, "low"].tolist() == [50.0, 66.5, 99.5]
