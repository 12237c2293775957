"""CCA: identities, then oracles (dense, scikit-learn), then properties, then mistakes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cross_decomposition import CCA
from svcca_layers import DTYPES, dense, layers

from replication import svcca
from replication.errors import ReplicationError
from replication.svcca.factor import factorise


@pytest.mark.parametrize("dtype", DTYPES)
def test_invertible_map_of_a_layer_is_the_same_layer(dtype: torch.dtype, generator: torch.Generator) -> None:
    x = layers()[0].to(dtype)
    map_ = torch.randn(6, 6, generator=generator, dtype=dtype)
    assert torch.allclose(svcca.cca(x, x @ map_ + 7).coefficients, torch.ones(6, dtype=torch.float64), atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "p", "q"), [(200, 6, 4), (200, 4, 6), (3000, 20, 20), (30, 12, 25), (40, 1, 1)])
def test_coefficients_are_those_of_orthonormal_bases(dtype: torch.dtype, n: int, p: int, q: int) -> None:
    x, y = (z.to(dtype) for z in layers(n, p, q))
    result = svcca.cca(x, y)
    assert torch.allclose(result.coefficients, dense(x, y), atol=DTYPES[dtype])
    assert (result.rank_x, result.rank_y, result.n) == (p, q, n)
    assert result.similarity == pytest.approx(result.coefficients.mean().item())


def test_coefficients_are_those_of_scikit_learn() -> None:
    x, y = layers(500)
    variates = CCA(n_components=4, max_iter=10_000, tol=1e-12).fit(x.numpy(), y.numpy()).transform(x.numpy(), y.numpy())
    expected = [abs(torch.corrcoef(torch.stack([torch.from_numpy(z[:, i]) for z in variates]))[0, 1].item()) for i in range(4)]
    assert svcca.cca(x, y).coefficients.tolist() == pytest.approx(expected, abs=1e-6)


def test_complex_layers() -> None:
    x, y = layers(300, 8, 6)
    z, w = torch.complex(x[:, :4], x[:, 4:]), torch.complex(y[:, :3], y[:, 3:])
    qz, qw = (torch.linalg.qr(v - v.mean(0))[0] for v in (z, w))
    assert torch.allclose(svcca.cca(z, w).coefficients, torch.linalg.svdvals(qz.mH @ qw), atol=1e-12)


@pytest.mark.parametrize("measure", ["cca", "svcca", "pwcca", "linear_cka"])
def test_constant_layer_has_similarity_zero_and_a_warning(measure: str) -> None:
    x, y = torch.full((200, 3), 0.1), layers()[1]
    for pair in ((x, y), (y, x), (x, x)):
        with pytest.warns(UserWarning, match="is constant over the examples"):
            result = getattr(svcca, measure)(*pair)
        assert (result if measure == "linear_cka" else result.similarity) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [2, 20, 30, 31])
def test_no_more_examples_than_neurons_gives_ones_and_says_so(dtype: torch.dtype, n: int) -> None:
    x, y = (z.to(dtype) for z in layers(n, 30, 7))
    result = svcca.cca(x, y)
    assert result.rank_x == n - 1
    assert result.rank_y == min(7, n - 1)
    assert torch.allclose(result.coefficients, torch.ones(result.rank_y, dtype=torch.float64), atol=DTYPES[dtype])
    assert result.coefficients.max() <= 1
    assert result.noise_floor == 1


@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from(list(DTYPES)))
def test_symmetric_and_between_zero_and_one(n: int, p: int, q: int, seed: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=g, dtype=dtype).relu() + 1
    y = torch.randn(n, q, generator=g, dtype=dtype).round()
    x[0, 0] += 9  # so that neither is constant
    y[0, 0] += 9
    result, reverse = svcca.cca(x, y), svcca.cca(y, x)
    assert torch.allclose(result.coefficients, reverse.coefficients, atol=1e-5)
    assert len(result.coefficients) == min(result.rank_x, result.rank_y)
    assert ((result.coefficients >= 0) & (result.coefficients <= 1)).all()


def test_half_precision_is_taken_as_it_is() -> None:
    x, y = (z.to(torch.bfloat16) for z in layers())
    assert torch.allclose(svcca.cca(x, y).coefficients, dense(x, y), atol=1e-5)


def test_inputs_stay_as_they_are() -> None:
    x, y = layers()
    before = x.clone(), y.clone()
    svcca.pwcca(x.requires_grad_(), y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_directions_give_variates_with_these_correlations() -> None:
    x, y = layers()
    result = svcca.cca(x, y)
    a, b = result.directions_x.variates(x), result.directions_y.variates(y)
    assert torch.allclose(a.T @ a, torch.eye(4, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(a.T @ b, torch.diag(result.coefficients), atol=1e-12)


def test_projection_is_exact_at_full_rank_idempotent_and_least_squares() -> None:
    y, x = layers()  # x has fewer neurons, so its directions span it
    directions = svcca.cca(x, y).directions_x
    assert torch.allclose(svcca.project(x, directions, 4), x, atol=1e-10)
    assert torch.allclose(svcca.project(x, directions, 0), x.mean(0).expand_as(x), atol=1e-10)
    reduced = svcca.project(x, directions, 2)
    assert torch.allclose(svcca.project(reduced, directions, 2), reduced, atol=1e-10)
    variates = directions.variates(x)[:, :2]
    fitted = variates @ torch.linalg.lstsq(variates, x - x.mean(0)).solution + x.mean(0)
    assert torch.allclose(reduced, fitted, atol=1e-10)
    assert svcca.project(x.float(), directions, 2).dtype == torch.float32


def test_held_out_correlations_agree_on_the_fit_and_vanish_for_independent_layers() -> None:
    x, y = layers(400, 30, 20, shared=0)
    result = svcca.cca(x[:200], y[:200])
    assert torch.allclose(svcca.held_out(result, x[:200], y[:200]), result.coefficients, atol=1e-10)
    assert svcca.held_out(result, x[200:], y[200:]).mean().abs() < 0.05 < result.similarity
    assert svcca.held_out(result, x[:2] * 0, y[:2]).tolist() == [0.0] * 20


def test_thresholded_mean() -> None:
    coefficients = torch.tensor([0.8, 0.6, 0.4, 0.2], dtype=torch.float64)
    factor = factorise(layers()[0])
    result = svcca.Cca(coefficients=coefficients, rank_x=4, rank_y=4, n=10, factors=(factor, factor), coupling=torch.diag(coefficients))
    assert [result.thresholded_mean(t) for t in (0.3, 0.5, 0.98, 1.0)] == pytest.approx([0.8, 0.7, 0.5, 0.5])


def test_epsilon_prunes_and_regularises() -> None:
    x, y = layers(1000)
    x[:, 2] *= 0.1
    epsilon = 0.3
    cov = [torch.cov(z.T) for z in (x, y)]
    kept = [c.diagonal() >= epsilon * c.diagonal().max() for c in cov]
    assert not kept[0].all()
    roots = []
    for c, k in zip(cov, kept, strict=True):
        values, vectors = torch.linalg.eigh(c[k][:, k] + epsilon * c.diagonal().max() * torch.eye(int(k.sum())))
        roots.append(vectors / values.sqrt() @ vectors.T)
    cross = torch.cov(torch.cat([x[:, kept[0]], y[:, kept[1]]], 1).T)[: int(kept[0].sum()), int(kept[0].sum()) :]
    result = svcca.cca(x, y, epsilon=epsilon)
    assert torch.allclose(result.coefficients, torch.linalg.svdvals(roots[0] @ cross @ roots[1]), atol=1e-12)
    assert not result.directions_x.weights[~kept[0]].any()


X = torch.zeros(5, 2).index_fill_(0, torch.tensor([0]), 1.0)


MISTAKES = {
    "list": (lambda: svcca.cca([1.0], X), "x is a list"),
    "text": (lambda: svcca.cca(np.array([["a"]] * 5), X), "x is an array of <U1"),
    "maps": (lambda: svcca.cca(torch.zeros(5, 2, 3, 3), X), r"x has shape \(5, 2, 3, 3\).*spatial_mean"),
    "one example": (lambda: svcca.cca(X[:1], X[:1]), r"x has shape \(1, 2\)"),
    "no neurons": (lambda: svcca.cca(X, X[:, :0]), r"y has shape \(5, 0\)"),
    "examples": (lambda: svcca.cca(X, X[:4]), "same examples"),
    "device": (lambda: svcca.cca(X, X.to("meta")), "one device"),
    "nan": (lambda: svcca.cca(X, X / X), "y has 8 non-finite values among 10"),
    "overflow": (lambda: svcca.cca(X, 1.7e308 * torch.ones(5, 2).double()), "overflows"),
    "directions": (lambda: svcca.project(X, svcca.cca(X, layers(5)[0]).directions_x, 9), "projected on 9 directions"),
    "held out": (lambda: svcca.held_out(svcca.cca(*layers()), X, X), "Held-out"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()


def test_a_complex_and_a_real_layer_are_one_sentence() -> None:
    z, x = torch.randn(40, 3, dtype=torch.complex64), torch.randn(40, 4)
    for measure in (svcca.cca, svcca.svcca, svcca.pwcca, svcca.procrustes):
        for pair in ((z, x), (x, z)):
            with pytest.raises(ReplicationError, match="complex and the other real"):
                measure(*pair)
