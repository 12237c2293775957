"""SVCCA and PWCCA against their formulas."""

from typing import Any

import pytest
import torch
from svcca_layers import DTYPES, layers, orthogonal

from replication import svcca
from replication.errors import ReplicationError


@pytest.mark.parametrize("criterion", ["singular", "variance"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_svcca_is_cca_of_the_kept_singular_directions(criterion: Any, dtype: torch.dtype) -> None:
    x, y = (z.to(dtype) for z in layers(500, 12, 9))
    kept = []
    for z in (x, y):
        u, s, _ = torch.linalg.svd(z.double() - z.double().mean(0), full_matrices=False)
        power = s if criterion == "singular" else s**2
        kept.append(u[:, : int((power.cumsum(0) < 0.9 * power.sum()).sum()) + 1])
    result = svcca.svcca(x, y, 0.9, criterion)
    assert (result.rank_x, result.rank_y) == (kept[0].shape[1], kept[1].shape[1])
    assert torch.allclose(result.coefficients, torch.linalg.svdvals(kept[0].T @ kept[1]), atol=DTYPES[dtype])


def test_svcca_does_not_change_under_rotation_and_common_scale() -> None:
    x, y = layers(500, 12, 9)
    expected = svcca.svcca(x, y, 0.9).coefficients
    assert torch.allclose(svcca.svcca(x @ orthogonal(12) * 3 + 1, y @ orthogonal(9), 0.9).coefficients, expected, atol=1e-12)


def test_svcca_of_everything_is_cca_and_dimensions_can_be_fixed() -> None:
    x, y = layers(500, 12, 9)
    assert torch.allclose(svcca.svcca(x, y, 1.0).coefficients, svcca.cca(x, y).coefficients, atol=1e-12)
    assert (svcca.svcca(x, y, dimensions=5).rank_x, svcca.svcca(x, y, dimensions=50).rank_y) == (5, 9)
    assert svcca.svcca(x, x).similarity == pytest.approx(1, abs=1e-12)


def test_projection_on_svcca_directions_restricts_to_the_kept_ones() -> None:
    y, x = layers(500, 12, 9)
    directions = svcca.svcca(x, y, dimensions=4).directions_x
    u, s, vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    assert torch.allclose(svcca.project(x, directions, 4), u[:, :4] * s[:4] @ vh[:4] + x.mean(0), atol=1e-10)


def test_svcca_of_a_layer_wider_than_the_examples() -> None:
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
    result = svcca.svcca(x, x + 1, 0.5)
    assert 1 <= result.rank_x < 19
    assert result.similarity == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pwcca_weighs_by_the_variates_of_the_first_layer(dtype: torch.dtype) -> None:
    x, y = (z.to(dtype) for z in layers(500, 12, 9))
    (qx, _), (qy, _) = (torch.linalg.qr(z.double() - z.double().mean(0)) for z in (x, y))
    u, rho, _ = torch.linalg.svd(qx.T @ qy, full_matrices=False)
    weights = ((qx @ u).T @ (x.double() - x.double().mean(0))).abs().sum(1)
    weights = weights / weights.sum()
    result = svcca.pwcca(x, y)
    assert torch.allclose(result.weights, weights, atol=1e-4 if dtype == torch.float32 else 1e-10)
    assert result.similarity == pytest.approx((weights * rho).sum().item(), abs=DTYPES[dtype])
    assert abs(result.similarity - svcca.pwcca(y, x).similarity) > 1e-3


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_pwcca_of_equal_spans_is_one(variant: Any) -> None:
    x = layers(500, 12, 9)[0]
    assert svcca.pwcca(x, x @ orthogonal(12), variant).similarity == pytest.approx(1, abs=1e-10)


def test_official_pwcca_takes_the_layer_with_fewer_neurons() -> None:
    x, y = layers(500, 12, 9)
    assert svcca.pwcca(x, y, "official").similarity == svcca.pwcca(y, x, "official").similarity


def test_pwcca_distance_is_one_minus_the_mean_of_both_orders() -> None:
    x, y = layers(500, 12, 9)
    expected = 1 - (svcca.pwcca(x, y).similarity + svcca.pwcca(y, x).similarity) / 2
    assert svcca.pwcca_distance(x, y) == pytest.approx(expected, abs=1e-12)
    assert svcca.pwcca_distance(x, x @ orthogonal(12) + 1) == pytest.approx(0, abs=1e-12)


MISTAKES = {
    "variant": (lambda: svcca.pwcca(*layers(), "other"), "PWCCA variant is 'other'"),
    "criterion": (lambda: svcca.svcca(*layers(), criterion="other"), "criterion is 'other'"),
    "keep": (lambda: svcca.svcca(*layers(), 99), "keep is 99"),
    "dimensions": (lambda: svcca.svcca(*layers(), dimensions=0), "dimensions 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()
