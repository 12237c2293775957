"""One factorisation per layer, of any scale, condition and rank."""

import pytest
import torch
from svcca_layers import DTYPES, dense, layers

from replication import svcca
from replication.svcca.factor import factorise


@pytest.mark.parametrize("scale", [1e-150, 1e-6, 1e6, 1e150])
def test_scale_of_one_neuron_changes_nothing(scale: float) -> None:
    x, y = layers()
    scaled = x.clone()
    scaled[:, 2] *= scale
    assert torch.allclose(svcca.cca(scaled, y).coefficients, dense(x, y), atol=1e-8)


def test_extreme_float32_values() -> None:
    x, y = (z.float() for z in layers())
    assert torch.allclose(svcca.cca(x * 1e30, y * 1e-30).coefficients, dense(x, y), atol=1e-5)


@pytest.mark.parametrize("exponent", [2, 5, 7, 10])
def test_ill_conditioned_layers_keep_their_coefficients(exponent: int, generator: torch.Generator) -> None:
    """x spans the same directions at ever smaller angles; each step of the factorisation takes its turn."""
    x, y = layers(300)
    squeezed = x @ torch.ones(6, 6, dtype=torch.float64) + 10.0**-exponent * x
    assert torch.allclose(svcca.cca(squeezed, y).coefficients, dense(x, y), atol=10.0 ** (exponent - 14))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dependent_neurons_do_not_count(dtype: torch.dtype, generator: torch.Generator) -> None:
    x, y = layers()
    wide = torch.cat([x, x @ torch.randn(6, 9, generator=generator, dtype=torch.float64)], 1)
    result = svcca.cca(wide.to(dtype), y.to(dtype))
    assert result.rank_x == 6
    assert torch.allclose(result.coefficients, dense(x, y), atol=DTYPES[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_neurons_do_not_count(dtype: torch.dtype, value: float) -> None:
    x, y = layers()
    dead = torch.cat([x[:, :3], torch.full((200, 2), value, dtype=torch.float64), x[:, 3:]], 1)
    result = svcca.cca(dead.to(dtype), y.to(dtype))
    assert result.rank_x == 6
    assert torch.allclose(result.coefficients, dense(x, y), atol=DTYPES[dtype])
    assert not result.directions_x.weights[3:5].any()


def test_failing_divide_and_conquer_falls_back_on_qr_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.linalg.LinAlgError("did not converge")

    x, y = layers(30, 12, 40)
    expected = svcca.cca(x, y).coefficients
    monkeypatch.setattr(torch.linalg, "svd", fails)
    monkeypatch.setattr(torch.linalg, "svdvals", fails)
    assert torch.allclose(svcca.cca(x, y).coefficients, expected, atol=1e-12)


@pytest.mark.parametrize("shared", [0, 20, 150])
def test_many_coefficients_also_where_some_are_zero(shared: int) -> None:
    """Large couplings go through eigenvalues, and through singular values where squares are too small."""
    basis = torch.linalg.qr(torch.randn(600, 300, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)[0]
    basis = torch.linalg.qr(basis - basis.mean(0))[0]
    x, y = basis[:, :150], basis[:, 150 - shared : 300 - shared]
    expected = torch.cat([torch.ones(shared), torch.zeros(150 - shared)]).double()
    assert torch.allclose(svcca.cca(x, y).coefficients, expected, atol=1e-10)
    x, y = layers(2000, 150, 140)
    assert torch.allclose(svcca.cca(x, y).coefficients, dense(x, y), atol=1e-10)


@pytest.mark.parametrize(("size", "counts"), [(3e-6, False), (1e-4, True)])
def test_a_direction_counts_above_what_rounding_of_the_input_leaves_open(size: float, counts: bool) -> None:
    """Of 4000 examples in float32, directions below 7.5e-6 of the largest may be rounding; float64 sees this one."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 3, generator=g, dtype=torch.float64)
    x[:, 2] = x[:, 0] + size * x[:, 2]
    assert factorise(x).rank == 3
    assert factorise(x.float()).rank == 2 + counts


@pytest.mark.parametrize("n", [4, 5, 6])
def test_rank_of_layers_with_about_as_many_examples_as_neurons(n: int) -> None:
    x = layers(n, 5, 2)[0]
    assert factorise(x).rank == min(n - 1, 5)


@pytest.mark.parametrize(("size", "counts"), [(1e-14, False), (1e-11, True)])
def test_a_nearly_dependent_neuron_in_float64(size: float, counts: bool) -> None:
    x, y = layers(300)
    x[:, 5] = x[:, 0] + size * x[:, 5]
    result = svcca.cca(x, y)
    assert result.rank_x == 5 + counts
