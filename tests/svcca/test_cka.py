"""CKA against its formula, and its noise floor against every pairing of the examples."""

import itertools

import numpy as np
import pytest
import torch
from svcca_layers import layers, orthogonal

from replication import svcca


@pytest.mark.parametrize(("p", "q"), [(12, 9), (30, 9)])
def test_linear_cka(p: int, q: int) -> None:
    x, y = layers(20, p, q)
    kernels = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y)]
    expected = (kernels[0] * kernels[1]).sum() / (kernels[0].norm() * kernels[1].norm())
    assert svcca.linear_cka(x, y) == pytest.approx(expected.item(), abs=1e-12)
    assert svcca.linear_cka(x, x @ orthogonal(p) * 2) == pytest.approx(1, abs=1e-12)


def test_noise_floor_of_linear_cka_is_its_mean_over_pairings(generator: torch.Generator) -> None:
    x, y = layers(40, 5, 4)
    floor = svcca.similarity_matrix({"x": x}, {"y": y}, measure="linear_cka").noise_floor[0]
    shuffled = [svcca.linear_cka(x, y[torch.randperm(40, generator=generator)]) for _ in range(400)]
    assert floor == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / 20)


def test_noise_floor_of_linear_cka_over_every_pairing_of_five_examples() -> None:
    x, y = layers(5, 2, 3)
    floor = svcca.similarity_matrix({"x": x}, {"y": y}, measure="linear_cka").noise_floor[0]
    pairings = [svcca.linear_cka(x, y[list(order)]) for order in itertools.permutations(range(5))]
    assert floor == pytest.approx(np.mean(pairings), abs=1e-12)
