"""The numbers of the official code (google/svcca), run on synthetic layers and on the layers of its tutorials."""

from typing import Any

import numpy as np
import pytest
import torch
from golden import golden
from svcca_layers import DTYPES, dense
from torch import Tensor

from replication import svcca
from replication.svcca.factor import factorise


def drawn(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return rng, lambda *shape: rng.standard_normal(shape)


def shared() -> tuple[np.ndarray, np.ndarray]:
    _, n = drawn(3)
    s, w1, w2 = n(10, 3000), n(30, 10), n(40, 10)
    return w1 @ s + 0.5 * n(30, 3000) + 5, w2 @ s + 0.5 * n(40, 3000) - 3


def independent(seed: int, p: int, q: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    _, normal = drawn(seed)
    return normal(p, n), normal(q, n)


def inverted() -> tuple[np.ndarray, np.ndarray]:
    _, n = drawn(2)
    a = n(100, 2000)
    return a, n(100, 100) @ a


def rank_deficient() -> tuple[np.ndarray, np.ndarray]:
    _, n = drawn(4)
    s, w1, w2, z = n(10, 2000), n(25, 10), n(30, 12), n(12, 2000)
    z[:10] = 0.8 * s + 0.6 * z[:10]
    return w1 @ s, w2 @ z


def dead_neurons() -> tuple[np.ndarray, np.ndarray]:
    _, n = drawn(5)
    a = np.maximum(n(40, 1500) - 0.5, 0)
    b = np.maximum(n(40, 40) @ a + 0.1 * n(40, 1500), 0)
    a[[3, 7, 11]], b[[0, 39]] = 0, 0
    a[20] *= 1e-6
    return a, b


def toy(k: int) -> tuple[np.ndarray, np.ndarray]:
    _, n = drawn(1000 + k)
    s, q = n(k, 2000), np.linalg.qr(n(k, k))[0]
    n1, n2 = np.sqrt(0.1) * n(200 - k, 2000), np.sqrt(0.1) * n(200 - k, 2000)
    return np.vstack([s, n1]), np.vstack([q @ s, n2])


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Channels last, as the recipe has them."""
    rng, n = drawn(8)
    x, k1, k2 = rng.standard_normal((60, 8, 8, 6)), n(6, 12), n(6, 10)
    return np.maximum(x @ k1, 0), np.maximum(x @ k2 + 0.5 * n(60, 8, 8, 10), 0)


def stored(name: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = np.load(golden(name))
    a, b = arrays["model_0"], arrays["model_1"]
    return (a, b) if a.shape[0] < a.shape[1] else (a.T, b.T)


def channels_first(z: np.ndarray) -> Tensor:
    return torch.from_numpy(z).permute(0, 3, 1, 2)


def layers_of(case: str) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of a golden case, ``[neurons, examples]`` as there."""
    if case.startswith("G09"):
        return independent(100 + int(case.split("_n")[1]), 100, 100, int(case.split("_n")[1]))
    if case.startswith("G13"):
        return toy(int(case.split("_k")[1]))
    if case.startswith("G11"):
        views = {"fold": svcca.folded, "avgpool": svcca.spatial_mean, "flatten2x2": lambda z: svcca.flattened(z[..., :2, :2])}
        a, b = (views[case.split("_conv_")[1]](channels_first(z)).T.numpy() for z in maps())
        return a, b
    a, b = {
        "G01": lambda: independent(0, 20, 15, 1000),
        "G02": lambda: independent(1, 100, 50, 2000),
        "G03": inverted,
        "G04": shared,
        "G06": rank_deficient,
        "G07": dead_neurons,
        "G10": lambda: independent(7, 50, 20, 50),
        "T01": lambda: stored("mnist_lay04.npz"),
        "T02": lambda: stored("svhn_lay06.npz"),
    }[case[:3]]()
    return (b, a) if case.endswith("swapped") else (a, b)


def tensors(case: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    a, b = layers_of(case)
    return torch.from_numpy(a.T).to(dtype), torch.from_numpy(b.T).to(dtype)


def golden_case(*path: str) -> Any:
    value = golden("svcca.json")
    for key in path:
        value = value[key]
    return value


LOOSE = {"G09_curve_n101": 1e-5, "G11_conv_flatten2x2": 1e-5}


CASES = (
    *("G01_indep_20_15", "G02_indep_100_50", "G03_invertible_linear", "G04_shared_eps0", "G04_shared_eps1e-10", "G04_shared_eps0.3"),
    *("G04_thr1.0", "G04_nocoefs", "G04_swapped", "G11_conv_fold", "G11_conv_avgpool", "G11_conv_flatten2x2"),
    *(f"G09_curve_n{n}" for n in (101, 200, 1000, 2000, 10000)),
    *("G13_pwcca_toy_k20", "G13_pwcca_toy_k180", "T01_MNIST_lay04", "T01_MNIST_lay04_eps0", "T02_SVHN_lay06", "T02_SVHN_lay06_eps0"),
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_official_coefficients(case: str, dtype: torch.dtype) -> None:
    wanted = golden_case("cases", case)
    exact = dtype == torch.float64 or case.startswith("T")  # stored in float32: nothing is lost there
    tolerance = LOOSE.get(case, 1e-8 if exact else 1e-5)
    result = svcca.cca(*tensors(case, dtype), epsilon=wanted["args"]["epsilon"])
    assert len(result.coefficients) == wanted["n_coef"]
    assert result.similarity == pytest.approx(wanted["mean_all"], abs=tolerance)
    assert result.thresholded_mean(wanted["args"]["threshold"]) == pytest.approx(wanted["mean_thr"], abs=tolerance)
    assert result.coefficients[:5].tolist() == pytest.approx(wanted["first5"], abs=tolerance)
    assert result.coefficients[-3:].tolist() == pytest.approx(wanted["last3"], abs=tolerance)
    assert (result.factors[0].kept.sum(), result.factors[1].kept.sum()) == (wanted["kept_x"], wanted["kept_y"])


@pytest.mark.parametrize("case", CASES)
def test_official_pwcca(case: str) -> None:
    """Where many ρ are 1 (G13, and G11 with fewer examples than neurons) the weights depend on how the official run rotated them."""
    wanted = golden_case("cases", case)
    x, y = tensors(case)
    tolerance = 0.005 if case.startswith("G13") or case in LOOSE else 1e-8
    for key, pair in (("pwcca", (x, y)), ("pwcca_swapped", (y, x))):
        if isinstance(wanted.get(key), float):
            result = svcca.pwcca(*pair, "official", epsilon=wanted["args"]["epsilon"])
            assert result.similarity == pytest.approx(wanted[key], abs=tolerance)
    if "pw_w5" in wanted and case[:3] not in ("G03", "G13"):
        result = svcca.pwcca(x, y, "official", epsilon=wanted["args"]["epsilon"])
        assert result.weights[:5].tolist() == pytest.approx(wanted["pw_w5"], abs=1e-8)


@pytest.mark.parametrize("key", ["G01", "G02", "G04", "T01_MNIST_lay04", "T02_SVHN_lay06"])
def test_pwcca_of_the_paper(key: str) -> None:
    wanted = golden_case("official_vs_paper_pwcca", key)
    x, y = tensors(key)
    assert svcca.pwcca(x, y).similarity == pytest.approx(wanted["paper_A_side"], abs=1e-10)
    assert svcca.pwcca(y, x).similarity == pytest.approx(wanted["paper_B_side"], abs=1e-10)


@pytest.mark.parametrize(
    ("case", "key", "options"),
    [
        ("T03_SVHN_svcca", "k20", {"dimensions": 20}),
        ("T03_SVHN_svcca", "sum|s|>=0.99 (paper appendix text)", {}),
        ("T03_SVHN_svcca", "sum s^2>=0.99 (variance)", {"criterion": "variance"}),
        ("G14_svcca_shared", "sum|s|>=0.99", {}),
        ("G14_svcca_shared", "sum s^2>=0.99", {"criterion": "variance"}),
    ],
)
def test_official_coefficients_after_singular_values(case: str, key: str, options: Any) -> None:
    wanted = golden_case("cases", case, key)
    result = svcca.svcca(*tensors("T02" if case.startswith("T03") else "G04"), **options)
    assert [result.rank_x, result.rank_y] == wanted["kept"]
    assert result.similarity == pytest.approx(wanted["mean_all"], abs=1e-8)
    assert result.thresholded_mean() == pytest.approx(wanted["mean_thr"], abs=1e-8)
    assert result.coefficients[:5].tolist() == pytest.approx(wanted["first5"], abs=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_official_fourier_blocks(dtype: torch.dtype) -> None:
    wanted = golden_case("cases", "G12_dft_blocks")
    result = svcca.fourier_cca(*(channels_first(z).to(dtype) for z in maps()))
    tolerance = 1e-8 if dtype == torch.float64 else 1e-6
    for place, block in wanted["per_location"].items():
        coefficients = result.at(*map(int, place.split(",")))
        assert coefficients[:5].tolist() == pytest.approx(block["first5"], abs=tolerance)
        assert coefficients.mean().item() == pytest.approx(block["mean_all"], abs=tolerance)
    assert result.similarity == pytest.approx(wanted["mean_over_64_locations"], abs=tolerance)
    assert [result.means.min().item(), result.means.max().item()] == pytest.approx(wanted["min_max"], abs=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_the_official_code_raises(dtype: torch.dtype) -> None:
    """The true answers: rank 10 against 12 with ρ around 0.8; 37 live neurons against 38; the whole space against part of it."""
    result = svcca.cca(*tensors("G06", dtype))
    assert (result.rank_x, result.rank_y, len(result.coefficients)) == (10, 12, 10)
    assert 0.75 < result.coefficients.min() < result.coefficients.max() < 0.85
    x, y = tensors("G07", dtype)
    result = svcca.cca(x, y)
    live = [z[:, z.any(0)].double() for z in (x, y)]
    assert (result.rank_x, result.rank_y) == (37, 38)
    live[0][:, -20] *= 1e6  # the small neuron is the 18th of the live ones: its scale is no matter
    assert torch.allclose(result.coefficients, dense(*live), atol=DTYPES[dtype])
    result = svcca.cca(*tensors("G10", dtype))
    assert torch.allclose(result.coefficients, torch.ones(20, dtype=torch.float64), atol=1e-5)
    for variant in ("paper", "official"):
        assert all(0 <= svcca.pwcca(*tensors(case, dtype), variant).similarity <= 1 + 1e-12 for case in ("G06", "G07", "G10"))


def test_official_singular_values_and_directions() -> None:
    x, y = tensors("G04")
    factor = factorise(x)
    wanted = golden_case("cases", "G15_pca")["eigenvals_first5"]
    assert torch.linalg.svdvals(factor.coordinates)[:5].tolist() == pytest.approx(wanted, rel=1e-8)
    result = svcca.cca(x, y)
    a, b = result.directions_x.variates(x), result.directions_y.variates(y)
    correlations = [abs(torch.corrcoef(torch.stack([a[:, i], b[:, i]]))[0, 1].item()) for i in range(5)]
    assert correlations == pytest.approx(golden_case("cases", "G18_dirns")["abs_corr_of_pair_i (i=0..4)"], rel=1e-8)
