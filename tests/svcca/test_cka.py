"""CKA against its formula, and its noise floor against every pairing of the examples."""

import itertools

import numpy as np
import pytest
import torch
from svcca_layers import layers, orthogonal
from torch import Tensor

from replication import svcca
from replication.errors import ReplicationError


def centred(kernel: np.ndarray) -> np.ndarray:
    h = np.eye(len(kernel)) - 1 / len(kernel)
    return h @ kernel @ h


def plain_cka(kernel_x: np.ndarray, kernel_y: np.ndarray) -> float:
    """The formula of Kornblith et al. (2019)."""
    a, b = centred(kernel_x), centred(kernel_y)
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def plain_hsic(kernel_x: np.ndarray, kernel_y: np.ndarray) -> float:
    """The unbiased estimate, equation 5 of Song et al. (2012), of kernels that are not centred."""
    n = len(kernel_x)
    a, b = (kernel - np.diag(np.diag(kernel)) for kernel in (kernel_x, kernel_y))
    return float((np.trace(a @ b) + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (a @ b).sum()) / (n * (n - 3)))


def plain_debiased(kernel_x: np.ndarray, kernel_y: np.ndarray) -> float:
    return plain_hsic(kernel_x, kernel_y) / np.sqrt(plain_hsic(kernel_x, kernel_x) * plain_hsic(kernel_y, kernel_y))


def linear(x: Tensor) -> np.ndarray:
    z = x.double().numpy()
    return z @ z.T


def gaussian(x: Tensor, bandwidth: float) -> np.ndarray:
    """The kernel of the code of Kornblith et al. (2019)."""
    z = x.double().numpy()
    squares = ((z[:, None] - z) ** 2).sum(2)
    return np.exp(-squares / (2 * bandwidth**2 * np.median(squares)))


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("n", "p", "q"), [(20, 12, 9), (20, 30, 9), (20, 30, 40), (5, 2, 3)])
def test_cka_of_tall_and_wide_layers(dtype: torch.dtype, n: int, p: int, q: int) -> None:
    x, y = (z.to(dtype) for z in layers(n, p, q))
    kernels = [linear(z) for z in (x, y)]
    assert svcca.linear_cka(x, y) == pytest.approx(plain_cka(*kernels), abs=1e-10)
    assert svcca.linear_cka(x, y, debiased=True) == pytest.approx(plain_debiased(*kernels), abs=1e-9)
    for bandwidth in (0.4, 2.0):
        kernels = [gaussian(z, bandwidth) for z in (x, y)]
        assert svcca.rbf_cka(x, y, bandwidth=bandwidth) == pytest.approx(plain_cka(*kernels), abs=1e-10)
        assert svcca.rbf_cka(x, y, bandwidth=bandwidth, debiased=True) == pytest.approx(plain_debiased(*kernels), abs=1e-9)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("scale", [1e-170, 1e-80, 1e80, 1e150])
def test_cka_of_very_large_and_very_small_activations(scale: float, wide: bool) -> None:
    x, y = layers(20, 30, 25) if wide else layers(50, 6, 4)
    assert svcca.linear_cka(x * scale, y) == pytest.approx(svcca.linear_cka(x, y), abs=1e-12)
    assert svcca.linear_cka(x * scale, x * scale) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("mean", [1e4, 1e6, 1e8])
def test_cka_of_large_means(mean: float, wide: bool) -> None:
    x, y = layers(20, 30, 25) if wide else layers(50, 6, 4)
    assert svcca.linear_cka(x + mean, y - mean) == pytest.approx(svcca.linear_cka(x, y), abs=1e-6)
    near = [(z + mean / 100).float() for z in (x, y)]
    assert svcca.linear_cka(*near) == pytest.approx(svcca.linear_cka(*(z.double() for z in near)), abs=1e-9)


def test_debiased_cka_of_independent_layers_is_zero_on_average() -> None:
    values = [
        svcca.linear_cka(*torch.randn(2, 12, 200, generator=torch.Generator().manual_seed(s)).unbind(), debiased=True) for s in range(200)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


def test_complex_and_real_layers() -> None:
    x, y = layers(20, 6, 4)
    z = torch.complex(x[:, :3], x[:, 3:])
    kernel = (z - z.mean(0)) @ (z - z.mean(0)).mH
    expected = plain_cka(kernel.real.numpy(), linear(y))
    expected *= np.linalg.norm(kernel.real.numpy()) / np.linalg.norm(kernel.numpy())
    assert svcca.linear_cka(z, y) == pytest.approx(expected, abs=1e-12)
    assert svcca.linear_cka(z.repeat(1, 10), y) == pytest.approx(expected, abs=1e-12)


def test_minibatch_cka_is_the_ratio_of_mean_unbiased_estimates() -> None:
    x, y = layers(60, 8, 30)
    parts = list(zip(x.split(20), y.split(20), strict=True))
    table = svcca.minibatch_cka(({"x": a} for a, _ in parts), ({"y": b, "x": a} for a, b in parts))
    xy = np.mean([plain_hsic(linear(a), linear(b)) for a, b in parts])
    xx, yy = (np.mean([plain_hsic(linear(pair[side]), linear(pair[side])) for pair in parts]) for side in (0, 1))
    assert table["similarity"].tolist() == pytest.approx([xy / np.sqrt(xx * yy), 1], abs=1e-9)
    assert table["examples"].tolist() == [60, 60]
    whole = svcca.minibatch_cka([{"x": x, "y": y}]).set_index(["layer_a", "layer_b"])["similarity"]
    assert whole["x", "y"] == pytest.approx(svcca.linear_cka(x, y, debiased=True), abs=1e-10)


@pytest.mark.parametrize("scales", [(1e-200, 1e-200), (1e-100, 1e-100), (1e80, 1e80), (1e150, 1e-150)])
def test_minibatch_cka_does_not_depend_on_the_scale(scales: tuple[float, float]) -> None:
    x, y = layers(60, 8, 5)
    parts = list(zip(x.split(20), y.split(20), strict=True))
    expected = svcca.minibatch_cka({"x": a, "y": b} for a, b in parts)
    scaled = svcca.minibatch_cka({"x": scales[0] * a, "y": scales[1] * b} for a, b in parts)
    assert scaled["similarity"].tolist() == pytest.approx(expected["similarity"].tolist(), abs=1e-12)


def test_batches_count_by_size_where_it_grows() -> None:
    """A batch of far larger activations decides, whichever comes first."""
    x, y = layers(40, 8, 5)
    small, large = {"x": 1e-90 * x[:20], "y": 1e-90 * y[:20]}, {"x": 1e90 * x[20:], "y": 1e90 * y[20:]}
    expected = svcca.minibatch_cka([{"x": x[20:], "y": y[20:]}])["similarity"].tolist()
    for batches in ([small, large], [large, small]):
        assert svcca.minibatch_cka(batches)["similarity"].tolist() == pytest.approx(expected, abs=1e-12)


def test_batches_count_by_their_examples() -> None:
    """A small last batch does not outweigh the others: batches of 40 and 4 are nearly the batch of 40."""
    x, y = layers(44, 8, 5)
    batches = [{"x": a, "y": b} for a, b in zip(x.split(40), y.split(40), strict=True)]
    table = svcca.minibatch_cka(batches).set_index(["layer_a", "layer_b"])["similarity"]
    sums = [
        sum(len(a) * plain_hsic(linear(p), linear(q)) for a, p, q in zip(x.split(40), u.split(40), v.split(40), strict=True))
        for u, v in ((x, y), (x, x), (y, y))
    ]
    assert table["x", "y"] == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-9)


def test_gaussian_kernels_in_batches() -> None:
    x, y = layers(20, 8, 5)
    table = svcca.minibatch_cka([{"x": x, "y": y}], bandwidth=0.5).set_index(["layer_a", "layer_b"])["similarity"]
    assert table["x", "y"] == pytest.approx(svcca.rbf_cka(x, y, bandwidth=0.5, debiased=True), abs=1e-10)


def test_a_constant_layer_in_all_batches() -> None:
    with pytest.warns(UserWarning, match="layer 'dead' is constant"):
        table = svcca.minibatch_cka([{"dead": torch.ones(6, 3), "x": layers(6)[0]}])
    assert table["similarity"].tolist() == pytest.approx([0, 0, 0, 1])


BATCH = {"x": layers(6)[0]}
MISTAKES = {
    "few": (lambda: svcca.linear_cka(*layers(3), debiased=True), "3 examples; allowed: 4 or more"),
    "bandwidth": (lambda: svcca.rbf_cka(*layers(), bandwidth=0), "bandwidth is 0"),
    "median": (lambda: svcca.rbf_cka(torch.eye(20)[:, :2], layers(20)[0]), "median distance is 0"),
    "nan": (lambda: svcca.linear_cka(torch.full((5, 9), torch.nan), layers(5)[0]), "45 non-finite values among 45"),
    "inf": (lambda: svcca.linear_cka(layers(5)[0].fill_(torch.inf), layers(5)[0]), "30 non-finite values among 30"),
    "no batches": (lambda: svcca.minibatch_cka([]), "no batches"),
    "small batch": (lambda: svcca.minibatch_cka([{"x": layers(3)[0]}]), "3 examples; allowed: 4 or more"),
    "more batches": (lambda: svcca.minibatch_cka([BATCH], [BATCH, BATCH]), "more batches"),
    "lengths": (lambda: svcca.minibatch_cka([BATCH], [{"x": layers(7)[0]}]), r"layers of \[6, 7\] examples"),
    "layers": (lambda: svcca.minibatch_cka([BATCH, {"y": layers(6)[0]}]), "A batch has the layers"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()
