import math

import numpy as np
import pytest
import torch
from conftest import polynomial_objective, small_batch_norm_net, small_mlp
from golden import golden
from scipy.sparse.linalg import LinearOperator, eigsh
from tiny_landscape import flat, tiny, tiny_examples
from torch import Tensor, nn

from replication import curvature, landscape
from replication.curvature.ends import advanced
from replication.curvature.lanczos import Lanczos
from replication.errors import ReplicationError
from replication.objective import Objective

Examples = tuple[Tensor, Tensor]


def dense_hessian(objective: Objective, theta: Tensor, *, keep: Tensor | None = None) -> Tensor:
    """Column by column, float64."""
    n = objective.n_parameters
    hessian = torch.stack([objective.hessian_vector_product(theta, row) for row in torch.eye(n, dtype=torch.float64)])
    return hessian if keep is None else hessian[keep][:, keep]


@pytest.fixture
def objective(examples: Examples) -> Objective:
    """163 parameters, an indefinite Hessian."""
    return Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("point", ["(0, 0)", "(1, 1)"])
def test_extremes_equal_the_official_and_the_dense_ones(point: str, dtype: torch.dtype) -> None:
    numbers = golden("landscape.json")
    objective = Objective(tiny(), *tiny_examples(), dtype=dtype)
    centre = objective.parameters()
    draws = [flat(numbers[key]) for key in ("raw_seed123_full", "raw_seed123_second_full")]
    x, y = (landscape.normalised(draw, centre, objective.layout) for draw in draws)
    alpha, beta = (float(number) for number in point.strip("()").split(","))
    expected = numbers["hessian_min_max"][point]
    ends = curvature.extremes(objective, centre + alpha * x + beta * y, ignore="biasbn")
    assert ends.smallest == pytest.approx(expected["dense_mean_loss_min"], rel=1e-5)
    assert ends.largest == pytest.approx(expected["dense_mean_loss_max"], rel=1e-5)
    assert abs(ends.smallest / ends.largest) == pytest.approx(expected["ratio_abs_dense"], rel=1e-5)
    assert ends.converged
    assert ends.products <= expected["hvp_count"] / 2


def test_extremes_are_those_of_the_dense_hessian_whatever_the_chunk(examples: Examples) -> None:
    for chunk in (60, 7):
        objective = Objective(small_mlp(nn.Tanh), *examples, chunk=chunk, dtype=torch.float64)
        theta = objective.parameters() * 1.5
        values = torch.linalg.eigvalsh(dense_hessian(objective, theta))
        smallest, largest = curvature.extreme_eigenvalues(objective, theta, tolerance=1e-6)
        assert smallest == pytest.approx(values[0].item(), rel=1e-8)
        assert largest == pytest.approx(values[-1].item(), rel=1e-8)


def test_vectors_and_error_bounds(objective: Objective) -> None:
    theta = objective.parameters()
    both_ends = curvature.extremes(objective, tolerance=1e-4)
    for value, error, vector in (
        (both_ends.smallest, both_ends.smallest_error, both_ends.smallest_vector),
        (both_ends.largest, both_ends.largest_error, both_ends.largest_vector),
    ):
        residual = (objective.hessian_vector_product(theta, vector) - value * vector).norm().item()
        assert vector.norm().item() == pytest.approx(1, abs=1e-10)
        assert residual == pytest.approx(error, rel=1e-3, abs=1e-9)
        assert residual <= 1e-4 * max(abs(both_ends.smallest), abs(both_ends.largest))


def test_half_the_products_of_two_calls_of_eigsh(objective: Objective) -> None:
    theta, count = objective.parameters(), 0

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return objective.hessian_vector_product(theta, torch.from_numpy(vector.ravel().copy())).numpy()

    n = objective.n_parameters
    operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    ends = [eigsh(operator, 1, which=which, tol=1e-2, v0=start, return_eigenvectors=False)[0] for which in ("SA", "LA")]
    both_ends = curvature.extremes(objective, tolerance=1e-2)
    assert both_ends.products <= count / 2
    np.testing.assert_allclose([both_ends.smallest, both_ends.largest], ends, rtol=1e-2)


def test_an_end_near_zero_is_held_to_a_hundredth_of_the_other_end() -> None:
    """No sooner, no later: one product less leaves its residual above tolerance / 100 of the larger end."""
    eigenvalues = torch.linspace(0, 1, 200, dtype=torch.float64)
    start = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def residual_after(max_products: int) -> tuple[int, float]:
        lanczos = Lanczos(lambda vector: eigenvalues * vector, start, 200)
        values, coefficients = advanced(lanczos, tolerance=1e-3, max_products=max_products)
        return lanczos.products, abs(lanczos.off_diagonal[-1] * coefficients[-1, 0]) / values[1]

    products, residual = residual_after(200)
    assert residual <= 1e-5 < residual_after(products - 1)[1]


def test_known_quadratic_and_spaces_smaller_than_the_limit() -> None:
    """sum theta_i^2 + theta_i theta_{i+1} on a ring of 3: eigenvalues 2 + 2 cos(2 pi k / 3) times 1, so 4, 1, 1."""
    objective = polynomial_objective(torch.ones(2, 3, dtype=torch.float64), degree=2)
    both_ends = curvature.extremes(objective)
    assert (both_ends.smallest, both_ends.largest) == (pytest.approx(1), pytest.approx(4))
    assert both_ends.converged
    assert both_ends.products == 3  # two different eigenvalues: an invariant space, and one product to measure the rounding
    assert curvature.trace(objective, probes=200).value == pytest.approx(6, abs=0.6)


def test_a_flat_objective_has_zeros() -> None:
    objective = polynomial_objective(torch.zeros(2, 3, dtype=torch.float64), degree=2)
    assert curvature.extreme_eigenvalues(objective) == (0, 0)


def test_not_finite_and_not_converged_are_told(objective: Objective) -> None:
    both_ends = curvature.extremes(objective, objective.parameters() * float("nan"))
    assert math.isnan(both_ends.smallest)
    assert math.isnan(both_ends.largest)
    assert math.isnan(both_ends.largest_error)
    assert not both_ends.converged
    short = curvature.extremes(objective, max_products=3, tolerance=1e-9)
    assert not short.converged
    assert short.products == 4
    assert "allow more products" in short.message
    assert short.largest_error > 0


def test_the_restricted_hessian_is_the_block_of_weights(examples: Examples) -> None:
    objective = Objective(small_batch_norm_net(nn.Tanh), *examples, dtype=torch.float64)
    theta = objective.parameters()
    keep = torch.cat([torch.full((slot.stop - slot.start,), len(slot.shape) > 1) for slot in objective.layout])
    values = torch.linalg.eigvalsh(dense_hessian(objective, theta, keep=keep))
    both_ends = curvature.extremes(objective, ignore="biasbn", tolerance=1e-6)
    assert both_ends.largest == pytest.approx(values[-1].item(), rel=1e-8)
    assert both_ends.smallest == pytest.approx(values[0].item(), rel=1e-6)
    assert not both_ends.largest_vector[~keep].any()


def test_quadrature_moments_are_those_of_the_spectrum(objective: Objective) -> None:
    """Weights sum to 1; first and second moments estimate tr H / n and tr H^2 / n; a full run has the spectrum's ends."""
    values = torch.linalg.eigvalsh(dense_hessian(objective, objective.parameters())).numpy()
    tables = curvature.spectral_density(objective, probes=20, products=40)
    nodes = tables["nodes"]
    np.testing.assert_allclose(nodes.groupby("probe")["weight"].sum(), 1, rtol=1e-10)
    for power in (1, 2):
        moments = (nodes["weight"] * nodes["eigenvalue"] ** power).groupby(nodes["probe"]).sum()
        assert moments.mean() == pytest.approx((values**power).mean(), abs=4 * moments.sem())
    assert nodes["eigenvalue"].max() == pytest.approx(values[-1], rel=1e-8)
    assert nodes["eigenvalue"].min() == pytest.approx(values[0], rel=1e-6)
    density = tables["density"]
    assert np.trapezoid(density["density"], density["eigenvalue"]) == pytest.approx(1, abs=1e-3)
    assert (density["density"] >= 0).all()


def test_the_density_of_two_eigenvalues_is_two_bells() -> None:
    objective = polynomial_objective(torch.ones(2, 3, dtype=torch.float64), degree=2)
    tables = curvature.spectral_density(objective, probes=200, products=3, width=0.05)
    np.testing.assert_allclose(sorted(tables["nodes"]["eigenvalue"].round(9).unique()), [1, 4])
    density = tables["density"]
    upper = density[density["eigenvalue"] > 2.5]
    assert np.trapezoid(upper["density"], upper["eigenvalue"]) == pytest.approx(1 / 3, abs=0.08)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_density_of_a_multiple_of_the_identity_integrates_to_one(size: float, dtype: torch.dtype) -> None:
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    inputs, targets = (2 * size**0.5 * rotation).to(dtype), torch.zeros(8, 1, dtype=dtype)
    objective = Objective(torch.nn.Linear(8, 1, bias=False), inputs, targets, loss="mse", dtype=dtype)
    density = curvature.spectral_density(objective, torch.zeros(8))["density"]
    assert np.trapezoid(density["density"], density["eigenvalue"]) == pytest.approx(1, abs=1e-4)
    assert density["eigenvalue"][density["density"].argmax()] == pytest.approx(size, rel=1e-2)


def test_points_may_be_arrays_and_lists(objective: Objective) -> None:
    theta = objective.parameters()
    expected = curvature.extreme_eigenvalues(objective, theta)
    assert curvature.extreme_eigenvalues(objective, theta.numpy()) == expected
    assert curvature.extreme_eigenvalues(objective, theta.tolist()) == expected


def test_trace_and_its_blocks_estimate_those_of_the_dense_hessian(objective: Objective) -> None:
    diagonal = dense_hessian(objective, objective.parameters()).diagonal()
    estimate = curvature.trace(objective, probes=200)
    assert estimate.value == pytest.approx(diagonal.sum().item(), abs=4 * estimate.standard_error)
    assert estimate.by_tensor["trace"].sum() == pytest.approx(estimate.value, rel=1e-10)
    for slot, row in zip(objective.layout, estimate.by_tensor.itertuples(), strict=True):
        assert row.name == slot.name
        assert row.trace == pytest.approx(diagonal[slot.slice].sum().item(), abs=5 * row.standard_error + 1e-12)
    again = curvature.trace(objective, probes=200, generator=torch.Generator().manual_seed(0))
    assert again.value == estimate.value


def test_the_standard_error_of_a_trace_divides_by_one_probe_less() -> None:
    """H = [[2, 2], [2, 2]]: a probe gives 0 or 8, so the share of eights, and with it their spread, follows from the mean."""
    objective = polynomial_objective(torch.ones(2, 2, dtype=torch.float64), degree=2)
    for probes in (3, 10):
        estimate = curvature.trace(objective, probes=probes)
        share = estimate.value / 8
        assert 0 < share < 1
        expected = 8 * (share * (1 - share) / (probes - 1)) ** 0.5
        assert estimate.standard_error == pytest.approx(expected, rel=1e-9)
        assert estimate.by_tensor["standard_error"].item() == pytest.approx(expected, rel=1e-9)


def test_the_trace_of_a_diagonal_hessian_is_exact() -> None:
    objective = polynomial_objective(torch.ones(2, 1, dtype=torch.float64), degree=2)
    assert curvature.trace(objective, probes=2).value == pytest.approx(4)  # theta^2 + theta theta


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # curvlinops' own, at import
def test_against_curvlinops(objective: Objective, examples: Examples) -> None:
    curvlinops = pytest.importorskip("curvlinops")
    model = small_mlp(nn.Tanh).double()
    images, labels = examples
    operator = curvlinops.HessianLinearOperator(
        model, nn.CrossEntropyLoss(), list(model.parameters()), [(images.double(), labels)], check_deterministic=False
    )
    vector = torch.randn(objective.n_parameters, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    theta = objective.parameters()
    torch.testing.assert_close(objective.hessian_vector_product(theta, vector), operator @ vector, rtol=1e-9, atol=1e-12)
    values = torch.linalg.eigvalsh(operator @ torch.eye(objective.n_parameters, dtype=torch.float64))
    smallest, largest = curvature.extreme_eigenvalues(objective, tolerance=1e-6)
    assert (smallest, largest) == (pytest.approx(values[0].item(), rel=1e-8), pytest.approx(values[-1].item(), rel=1e-8))


def test_a_map_has_the_extremes_of_each_point_and_is_continued(generator: torch.Generator) -> None:
    objective = Objective(tiny(), *tiny_examples(), dtype=torch.float64)
    x, y = (landscape.random_direction(tiny(), generator) for _ in range(2))
    table = curvature.eigenvalue_map(objective, x, y, [0.0, 0.5], [0.0], limit=1)
    assert table["computed"].tolist() == [True, False]
    table = curvature.eigenvalue_map(objective, x, y, [0.0, 0.5], [0.0], done=table)
    expected = curvature.extremes(objective, objective.parameters() + 0.5 * x, ignore="biasbn", tolerance=1e-2)
    assert table["ratio"][1] == abs(expected.smallest / expected.largest)
    assert table["products"][1] == expected.products
    assert table["converged"].tolist() == [1, 1]
    with pytest.raises(ReplicationError, match="belongs to another network"):
        curvature.eigenvalue_map(objective, x, y, [0.0, 0.5], [0.0], centre=1.02 * objective.parameters(), done=table)


def test_wrong_arguments_give_one_sentence(objective: Objective) -> None:
    with pytest.raises(ReplicationError, match="tolerance is 0"):
        curvature.extremes(objective, tolerance=0)
    with pytest.raises(ReplicationError, match="ignore is 'bias'"):
        curvature.extremes(objective, ignore="bias")  # type: ignore[arg-type]
    with pytest.raises(ReplicationError, match="leaves none"):
        curvature.extremes(polynomial_objective(torch.ones(2, 3), degree=2), ignore=["theta"])
    with pytest.raises(ReplicationError, match="number of probes is 1; allowed: 2 or more"):
        curvature.trace(objective, probes=1)
    with pytest.raises(ReplicationError, match="number of products is 0; allowed: 1 or more"):
        curvature.spectral_density(objective, products=0)
    for width in (0, -1.0, float("nan")):
        with pytest.raises(ReplicationError, match="width is"):
            curvature.spectral_density(objective, width=width)
    not_whole = (
        lambda: curvature.trace(objective, probes=2.5),  # type: ignore[arg-type]
        lambda: curvature.eigenpairs(objective, k=1.0),  # type: ignore[arg-type]
        lambda: curvature.extremes(objective, max_products=9.0),  # type: ignore[arg-type]
    )
    for call in not_whole:
        with pytest.raises(ReplicationError, match="a whole number"):
            call()
    with pytest.raises(ReplicationError, match="theta is a str"):
        curvature.extremes(objective, "zeros")
    with pytest.raises(ReplicationError, match="shape"):
        curvature.extremes(objective, torch.zeros(2))
