"""One factorisation per layer, of any scale, condition and rank."""

import numpy as np
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_of_the_input_is_no_direction(dtype: torch.dtype, generator: torch.Generator) -> None:
    """Layer norm leaves 15 of 16 dimensions, and softmax 9 of 10, in any precision."""
    x = torch.nn.functional.layer_norm(torch.randn(2000, 16, generator=generator), (16,))
    rotated = x @ torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    result = svcca.cca(x.to(dtype), rotated.to(dtype))
    assert (result.rank_x, result.rank_y) == (15, 15)
    assert result.similarity == pytest.approx(1, abs=1e-4)
    p, q = ((1.5 * torch.randn(2000, 10, generator=generator)).softmax(1) for _ in range(2))
    result = svcca.cca(p.to(dtype), (p + q).to(dtype))
    assert (result.rank_x, result.rank_y) == (9, 9)
    assert result.similarity == pytest.approx(svcca.cca(p.double(), (p + q).double()).similarity, abs=2e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n", [30, 200])
def test_half_precision_keeps_directions_of_full_rank(dtype: torch.dtype, n: int) -> None:
    x = torch.randn(n, 40, generator=torch.Generator().manual_seed(0)).relu()
    assert factorise(x.to(dtype)).rank == factorise(x).rank == min(n - 1, 40)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_neuron_that_only_rounding_moves_is_constant(dtype: torch.dtype, generator: torch.Generator) -> None:
    x = torch.randn(200, 3, generator=generator)
    moved = torch.full((200, 1), 5.0) + torch.finfo(dtype).eps * torch.randn(200, 1, generator=generator)
    assert factorise(torch.cat([x, moved], 1).to(dtype)).rank == 3


@pytest.mark.parametrize("mean", [0.0, 2e3, 1e4, 1e6])
def test_large_means_of_float32(mean: float, generator: torch.Generator) -> None:
    """Values are rounded to float32 first, so float64 sees the same numbers; what rounding adds is no direction."""
    h = torch.randn(2000, 7, generator=generator, dtype=torch.float64)
    h[:, 6] = h[:, 0] + h[:, 1]
    mixed = h @ torch.randn(7, 7, generator=generator, dtype=torch.float64)
    x, y = (h + mean).float(), (mixed + mean).float()
    result = svcca.cca(x, y)
    assert (result.rank_x, result.rank_y) == (6, 6)
    assert result.similarity == pytest.approx(1, abs=max(1e-5, (1e-7 * mean) ** 2 * 100))
    variates = result.directions_x.variates(x)
    assert torch.allclose(variates.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-6)
    independent = (torch.randn(2000, 7, generator=generator, dtype=torch.float64) + mean).float()
    assert torch.allclose(svcca.cca(x[:, :6], independent).coefficients, dense(x[:, :6], independent), atol=1e-5)


@pytest.mark.parametrize("scale", [1e-23, 1e-38, 1e25])
def test_one_neuron_of_another_scale_in_float32(scale: float, generator: torch.Generator) -> None:
    x = torch.randn(4096, 3, generator=generator)
    y = x + torch.randn(4096, 3, generator=generator)
    scaled = x.clone()
    scaled[:, 0] *= scale
    assert torch.allclose(svcca.cca(scaled, y).coefficients, svcca.cca(x, y).coefficients, atol=1e-4 if scale == 1e-38 else 1e-6)


@pytest.mark.parametrize("scale", [1e-200, 1e-170, 1e160, 1e250])
def test_one_neuron_of_any_scale_in_float64(scale: float) -> None:
    x, y = layers()
    scaled = x - x.mean(0)
    scaled[:, 2] *= scale
    assert torch.allclose(svcca.cca(scaled, y).coefficients, dense(x, y), atol=1e-8)


@pytest.mark.parametrize("kind", [torch.int64, torch.uint8, torch.bool])
def test_whole_numbers_count_as_they_are(kind: torch.dtype, generator: torch.Generator) -> None:
    x = torch.randint(2 if kind == torch.bool else 9, (50, 4), generator=generator).to(kind)
    y = layers(50)[0]
    assert torch.equal(svcca.cca(x, y).coefficients, svcca.cca(x.double(), y).coefficients)
    assert svcca.linear_cka(x.numpy(), y) == svcca.linear_cka(x.double(), y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "p"), [(20, 300), (20, 41), (2, 50)])
def test_wide_layers_have_the_directions_of_their_singular_values(n: int, p: int, dtype: torch.dtype) -> None:
    x = layers(n, p, 5)[0].to(dtype)
    factor = factorise(x)
    z = x.double() - x.double().mean(0)
    u, s, _ = np.linalg.svd(z / z.norm(dim=0), full_matrices=False)
    assert factor.rank == int((s > 1e-6 * s[0]).sum())
    basis = factor.data.double() if factor.inner is None else factor.data.double() @ factor.inner
    assert np.allclose(basis @ basis.T, u[:, : factor.rank] @ u[:, : factor.rank].T, atol=1e-8)
    assert torch.allclose(basis @ factor.coordinates, z, atol=1e-8)
    assert torch.allclose(z @ factor.weights, basis, atol=1e-8)


def test_duplicate_and_dead_neurons_of_wide_layers(generator: torch.Generator) -> None:
    x = torch.randn(20, 6, generator=generator)
    wide = torch.cat([x, x, torch.zeros(20, 50), 3 * x], 1)
    result = svcca.cca(wide, x)
    assert (result.rank_x, result.rank_y) == (6, 6)
    assert result.similarity == pytest.approx(1, abs=1e-5)
