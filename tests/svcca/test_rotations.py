"""Procrustes analysis against scipy and plain numpy."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from svcca_layers import layers, orthogonal

from replication import svcca


@pytest.mark.parametrize(("n", "p", "q"), [(50, 6, 6), (50, 6, 4), (20, 30, 30), (20, 6, 40)])
def test_distance_is_that_of_the_best_rotation(n: int, p: int, q: int) -> None:
    x, y = layers(n, p, q)
    size = max(p, q)
    a, b = (np.pad((z - z.mean(0)).numpy(), ((0, 0), (0, size - z.shape[1]))) for z in (x, y))
    rotation, nuclear = scipy.linalg.orthogonal_procrustes(a, b)
    result = svcca.procrustes(x, y)
    assert result.distance == pytest.approx(np.linalg.norm(a @ rotation - b), rel=1e-9)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    assert result.normalised_distance == pytest.approx(np.linalg.norm(a @ rotation - b), rel=1e-9)
    assert result.similarity == pytest.approx(nuclear / (result.norm_x * result.norm_y), abs=1e-12)
    assert result.angle == pytest.approx(math.acos(result.similarity))
    if p == q == 6:
        assert np.allclose(result.rotation.numpy(), rotation[:p, :q], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rotations_and_shifts_change_nothing(dtype: torch.dtype) -> None:
    x = layers(50, 6, 4)[0]
    result = svcca.procrustes(x.to(dtype), (3 * x @ orthogonal(6) + 7).to(dtype))
    assert result.normalised_distance == pytest.approx(0, abs=1e-6)
    assert result.distance == pytest.approx(2 * result.norm_x, rel=1e-6)
    assert svcca.procrustes(x.to(dtype), x.to(dtype)).normalised_distance == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("scale", [1e-170, 1e150])
def test_scales(scale: float) -> None:
    x, y = layers(50, 6, 4)
    assert svcca.procrustes(x * scale, y).similarity == pytest.approx(svcca.procrustes(x, y).similarity, abs=1e-12)


def test_a_constant_layer() -> None:
    x = layers(50, 6, 4)[0]
    with pytest.warns(UserWarning, match="x is constant"):
        result = svcca.procrustes(torch.ones(50, 3), x)
    assert (result.similarity, result.distance, result.rotation.shape) == (0, result.norm_y, (3, 6))


def test_values_of_two_other_packages() -> None:
    """The formulas of netrep's LinearMetric(alpha=0), a whitened Procrustes angle, and of repsim's PWCCA, in plain numpy."""
    x, y = layers(60, 6, 6)
    bases = [np.linalg.qr((z - z.mean(0)).numpy())[0] for z in (x, y)]
    nuclear = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False).sum()
    assert math.acos(svcca.cca(x, y).similarity) == pytest.approx(math.acos(nuclear / 6), abs=1e-10)
    u, rho, vt = np.linalg.svd(bases[0].T @ bases[1])
    weights = [np.abs((q @ r).T @ (z - z.mean(0)).numpy()).sum(1) for q, r, z in ((bases[0], u, x), (bases[1], vt.T, y))]
    expected = np.mean([(w / w.sum() * rho).sum() for w in weights])
    assert 1 - svcca.pwcca_distance(x, y) == pytest.approx(expected, abs=1e-10)
