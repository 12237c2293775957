"""Bounds of eigenvalues hold for the arithmetic that was done; what is not a symmetric matrix is named."""

import numpy as np
import pytest
import torch
from conftest import polynomial_objective, small_mlp
from sklearn.datasets import load_breast_cancer, load_wine
from torch import Tensor, nn

from replication import curvature
from replication.errors import ReplicationError
from replication.objective import Objective

Examples = tuple[Tensor, Tensor]


def dense(objective: Objective, theta: Tensor) -> Tensor:
    """The Hessian in float64, column by column."""
    rows = torch.eye(objective.n_parameters, dtype=torch.float64)
    return torch.stack([objective.hessian_vector_product(theta, row) for row in rows])


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_convex_loss_may_have_the_eigenvalue_zero(load, dtype: torch.dtype) -> None:
    """Logistic regression on features that were not scaled: in float32 the smallest eigenvalue comes out below zero."""
    features, labels = (torch.as_tensor(array) for array in load(return_X_y=True))
    torch.manual_seed(0)
    model = nn.Linear(features.shape[1], int(labels.max()) + 1)
    ends = curvature.extremes(Objective(model, features.float(), labels.long(), dtype=dtype))
    assert ends.smallest + ends.smallest_error >= 0
    assert ends.smallest_error > 0
    exact = Objective(model, features.float().double(), labels.long(), dtype=torch.float64)
    largest = torch.linalg.eigvalsh(dense(exact, exact.parameters()))[-1].item()
    assert abs(ends.largest - largest) <= ends.largest_error
    assert ends.converged or "rounding" in ends.message.lower()
    assert bool(ends.message) != ends.converged


def test_an_operator_that_is_not_symmetric_is_named(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)
    true = objective.hessian_vector_product
    generator = torch.Generator().manual_seed(0)
    wrong = 1e-2 * torch.randn(objective.n_parameters, objective.n_parameters, generator=generator, dtype=torch.float64)
    monkeypatch.setattr(objective, "hessian_vector_product", lambda theta, vector: true(theta, vector) + wrong @ vector)
    for ends in (curvature.extremes(objective), curvature.eigenpairs(objective, k=2)):
        assert not ends.converged
        assert "not those of a symmetric matrix" in ends.message
    with pytest.raises(ReplicationError, match="not those of a symmetric matrix"):
        curvature.spectral_density(objective)


def test_products_that_cannot_be_repeated_widen_the_bounds(examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)
    true, generator = objective.hessian_vector_product, torch.Generator().manual_seed(0)

    def noisy(theta: Tensor, vector: Tensor) -> Tensor:
        return true(theta, vector) + 1e-2 * torch.randn(len(vector), generator=generator, dtype=torch.float64)

    monkeypatch.setattr(objective, "hessian_vector_product", noisy)
    ends = curvature.extremes(objective)
    assert not ends.converged
    assert ends.largest_error > 0.05
    assert "not those of a symmetric matrix" in ends.message or "Rounding" in ends.message


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
def test_eigenpairs_are_those_of_the_dense_hessian(which, examples: Examples) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(dense(objective, objective.parameters()))
    order = {"largest": -values, "smallest": values, "magnitude": -values.abs()}[which].argsort()[:5]
    pairs = curvature.eigenpairs(objective, k=5, which=which, tolerance=1e-5)
    assert pairs.converged, pairs.message
    torch.testing.assert_close(pairs.values, values[order], rtol=1e-7, atol=1e-9)
    overlaps = (pairs.vectors * vectors[:, order].T).sum(1).abs()
    torch.testing.assert_close(overlaps, torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-4)
    torch.testing.assert_close(pairs.vectors @ pairs.vectors.T, torch.eye(5, dtype=torch.float64), rtol=0, atol=1e-10)
    assert (abs(pairs.values - values[order]) <= pairs.errors).all()


def test_an_eigenvalue_that_occurs_twice_is_found_twice() -> None:
    """2 + 2 cos(2 pi k / 3) on a ring of three: 4, 1, 1."""
    pairs = curvature.eigenpairs(polynomial_objective(torch.ones(2, 3, dtype=torch.float64), degree=2), k=3)
    torch.testing.assert_close(pairs.values, torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64))
    assert pairs.converged


def test_hutch_plus_plus_is_unbiased_and_exact_for_few_eigenvalues(examples: Examples) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)
    diagonal = dense(objective, objective.parameters()).diagonal()
    blocks = []
    for seed in range(12):
        estimate = curvature.trace(objective, probes=30, method="hutch++", generator=torch.Generator().manual_seed(seed))
        blocks.append(estimate.by_tensor["trace"].to_numpy())
        assert estimate.by_tensor["trace"].sum() == pytest.approx(estimate.value, rel=1e-9)
    expected = [diagonal[slot.slice].sum().item() for slot in objective.layout]
    spread = np.std(blocks, axis=0) / 12**0.5
    assert (np.abs(np.mean(blocks, axis=0) - expected) <= 4 * spread + 1e-9).all()
    images, labels = examples
    few = Objective(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), images[:4], labels[:4], dtype=torch.float64)  # of rank 8
    exact = dense(few, few.parameters()).trace().item()
    assert curvature.trace(few, probes=30, method="hutch++").value == pytest.approx(exact, rel=1e-9)
    assert abs(curvature.trace(few, probes=30).value - exact) > 1e-3 * exact
    ring = polynomial_objective(torch.ones(2, 3, dtype=torch.float64), degree=2)
    assert curvature.trace(ring, probes=12, method="hutch++").value == pytest.approx(6)


def test_parts_of_the_hessian_by_layer(examples: Examples) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)
    hessian = dense(objective, objective.parameters())
    for layer in ("1", "3", "5"):
        inside = torch.cat([torch.full((slot.stop - slot.start,), slot.layer == layer) for slot in objective.layout])
        values = torch.linalg.eigvalsh(hessian[inside][:, inside])
        ends = curvature.extremes(objective, ignore=lambda slot, layer=layer: slot.layer != layer, tolerance=1e-6)
        assert (ends.smallest, ends.largest) == (pytest.approx(values[0].item(), abs=1e-8), pytest.approx(values[-1].item(), rel=1e-8))
        assert not ends.largest_vector[~inside].any()


def test_wrong_arguments_give_one_sentence(examples: Examples) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples)
    with pytest.raises(ReplicationError, match="number of eigenpairs is 0"):
        curvature.eigenpairs(objective, k=0)
    with pytest.raises(ReplicationError, match="which is 'top'; allowed: 'largest'"):
        curvature.eigenpairs(objective, which="top")
    with pytest.raises(ReplicationError, match="matrix is 'jacobian'; allowed: 'hessian'"):
        curvature.extremes(objective, matrix="jacobian")
    with pytest.raises(ReplicationError, match="method is 'xtrace'"):
        curvature.trace(objective, method="xtrace")
    with pytest.raises(ReplicationError, match="number of probes is 5; allowed: 6"):
        curvature.trace(objective, probes=5, method="hutch++")


@pytest.mark.parametrize("matrix", ["gauss_newton", "fisher", "empirical_fisher"])
def test_other_matrices_have_their_dense_spectra(matrix, examples: Examples) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, dtype=torch.float64)
    theta, empirical = objective.parameters(), matrix == "empirical_fisher"
    rows = torch.eye(objective.n_parameters, dtype=torch.float64)
    if matrix == "gauss_newton":
        whole = torch.stack([objective.gauss_newton_vector_product(theta, row) for row in rows])
    else:
        whole = torch.stack([objective.fisher_vector_product(theta, row, empirical=empirical) for row in rows])
    ends = curvature.extremes(objective, matrix=matrix)
    assert ends.converged
    assert ends.largest == pytest.approx(torch.linalg.eigvalsh(whole)[-1].item(), rel=1e-8)
    assert ends.smallest + ends.smallest_error >= 0
    estimate = curvature.trace(objective, matrix=matrix, method="hutch++", probes=60)
    assert estimate.value == pytest.approx(whole.trace().item(), abs=5 * estimate.standard_error)


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_bounds_hold_in_float32_for_weights_of_any_size(scale: float) -> None:
    """Large weights saturate the softmax, whose roundings hardly depend on the weights."""
    for seed in (2, 9, 13):
        torch.manual_seed(seed)
        activation = (nn.ReLU, nn.Tanh, nn.GELU)[seed % 3]
        model = nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 5), activation(), nn.Linear(5, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= scale
        inputs, labels = torch.randn(40, 6), torch.arange(40) % 3
        objective = Objective(model, inputs, labels)
        exact = torch.linalg.eigvalsh(dense(Objective(model, inputs, labels, dtype=torch.float64), objective.parameters()))
        ends, pairs = curvature.extremes(objective), curvature.eigenpairs(objective, k=2)
        values = torch.tensor([ends.smallest, ends.largest, *pairs.values.tolist()], dtype=torch.float64)
        errors = torch.tensor([ends.smallest_error, ends.largest_error, *pairs.errors.tolist()], dtype=torch.float64)
        assert bool(((exact[None] - values[:, None]).abs().amin(1) <= errors).all())
