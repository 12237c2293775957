"""SVCCA, PWCCA, Fourier blocks, the table of layers, activations of a network; the official code's numbers last."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from golden import golden
from test_cca import DTYPES, dense, layers
from torch import Tensor, nn

from replication import svcca
from replication.errors import ReplicationError


def orthogonal(p: int, seed: int = 5) -> Tensor:
    return torch.linalg.qr(torch.randn(p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


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


@pytest.mark.parametrize(("p", "q"), [(12, 9), (30, 9)])
def test_linear_cka(p: int, q: int) -> None:
    x, y = layers(20, p, q)
    kernels = [(z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y)]
    expected = (kernels[0] * kernels[1]).sum() / (kernels[0].norm() * kernels[1].norm())
    assert svcca.linear_cka(x, y) == pytest.approx(expected.item(), abs=1e-12)
    assert svcca.linear_cka(x, x @ orthogonal(p) * 2) == pytest.approx(1, abs=1e-12)


def circular_net(channels: int, size: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(2, channels, size, padding="same", padding_mode="circular"), nn.ReLU()).double()


def test_fourier_blocks_unite_to_the_flattened_layers_when_all_translations_are_there(generator: torch.Generator) -> None:
    base = torch.randn(12, 2, 4, 3, generator=generator, dtype=torch.float64)
    images = torch.cat([base.roll((i, j), (2, 3)) for i in range(4) for j in range(3)])
    x, y = circular_net(3, 3, 1)(images).detach(), circular_net(2, 3, 2)(images).detach()
    result = svcca.fourier_cca(x, y)
    expected = svcca.cca(svcca.flattened(x), svcca.flattened(y)).coefficients
    assert torch.allclose(result.union, expected, atol=1e-10)
    assert result.similarity == pytest.approx(expected.mean().item(), abs=1e-10)


@pytest.mark.parametrize(("size_x", "size_y"), [((6, 6), (6, 6)), ((5, 4), (5, 4)), ((8, 6), (4, 3)), ((3, 8), (6, 4)), ((4, 4), (1, 1))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_fourier_block_is_cca_at_that_frequency(size_x: tuple[int, int], size_y: tuple[int, int], dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    common = torch.randn(80, 1, 1, 1, generator=g)
    x = (torch.randn(80, 4, *size_x, generator=g) + common).to(dtype)
    y = (torch.randn(80, 3, *size_y, generator=g) + common).to(dtype)
    result = svcca.fourier_cca(x, y)
    fx, fy = torch.fft.fft2(x.double()), torch.fft.fft2(y.double())
    spans = [range(-(min(a, b) // 2), (min(a, b) + 1) // 2) for a, b in zip(size_x, size_y, strict=True)]
    for v in spans[0]:
        for h in spans[1]:
            expected = svcca.cca(fx[..., v, h], fy[..., v, h]).coefficients
            assert torch.allclose(result.at(v, h), expected, atol=1e-10)
            assert result.means[v, h] == pytest.approx(expected.mean().item(), abs=1e-10)
    assert result.means.shape == (len(spans[0]), len(spans[1]))
    assert len(result.coefficients) <= result.means.numel() // 2 + 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_fourier_blocks_without_content_have_similarity_zero(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, 1, 1, generator=g).expand(-1, -1, 4, 4).to(dtype) + 5  # constant in space
    result = svcca.fourier_cca(x, torch.randn(50, 2, 4, 4, generator=g).to(dtype))
    assert result.counts[result.block_of[0, 0]] == 2
    assert result.counts.sum() == 2
    assert result.means.count_nonzero() == 1
    assert len(result.at(1, 1)) == 0


def test_fourier_blocks_of_dependent_and_dead_channels() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, 4, 4, generator=g)
    more = torch.cat([x, x[:, :1] + x[:, 1:2], torch.zeros(50, 1, 4, 4)], 1)
    y = torch.randn(50, 5, 4, 4, generator=g)
    assert torch.allclose(svcca.fourier_cca(more, y).means, svcca.fourier_cca(x, y).means, atol=1e-6)


def test_vector_against_maps_compares_the_spatial_means() -> None:
    g = torch.Generator().manual_seed(0)
    x, logit = torch.randn(50, 3, 4, 4, generator=g, dtype=torch.float64), torch.randn(50, 1, generator=g, dtype=torch.float64)
    assert torch.allclose(svcca.fourier_cca(x, logit).union, svcca.cca(svcca.spatial_mean(x), logit).coefficients, atol=1e-12)


def test_views_of_maps() -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(svcca.spatial_mean(x), x.mean((2, 3)))
    assert torch.equal(svcca.folded(x)[1 * 20 + 2 * 5 + 3], x[1, :, 2, 3])
    assert torch.equal(svcca.flattened(x)[1, 2 * 20 + 2 * 5 + 3], x[1, 2, 2, 3])


@pytest.mark.parametrize("measure", ["cca", "svcca", "pwcca", "linear_cka"])
def test_similarity_matrix_holds_what_the_pairs_give(measure: Any) -> None:
    a = {"one": layers(300, 12, 9)[0], "two": layers(300, 12, 9)[1].float(), "three": layers(300, 5, 9, seed=1)[0]}
    for b in (None, {"else": layers(300, 12, 7)[1], "one": a["one"]}):
        table = svcca.similarity_matrix(a, b, measure=measure)
        assert list(table.layer_a.unique()) == list(a)
        assert len(table) == 3 * len(b or a)
        for row in table.itertuples():
            single = getattr(svcca, measure)(a[row.layer_a], (b or a)[row.layer_b])
            assert row.similarity == pytest.approx(single if measure == "linear_cka" else single.similarity, abs=1e-10)
            if measure in ("cca", "svcca"):
                assert (row.dimensions_a, row.dimensions_b, row.noise_floor) == (single.rank_x, single.rank_y, single.noise_floor)


def test_similarity_matrix_factorises_every_layer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    factorise = svcca.factorise
    monkeypatch.setattr("replication.svcca.measures.factorise", lambda x, name: (calls.append(name), factorise(x, name=name))[1])
    a = {"one": layers()[0], "two": layers()[1]}
    svcca.similarity_matrix(a, {"three": layers(seed=1)[0], "again": a["one"]})
    assert calls == ["layer 'one'", "layer 'two'", "layer 'three'"]


def test_noise_floor_of_linear_cka_is_its_mean_over_pairings(generator: torch.Generator) -> None:
    x, y = layers(40, 5, 4)
    floor = svcca.similarity_matrix({"x": x}, {"y": y}, measure="linear_cka").noise_floor[0]
    shuffled = [svcca.linear_cka(x, y[torch.randperm(40, generator=generator)]) for _ in range(400)]
    assert floor == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / 20)


def test_similarity_matrix_of_a_constant_layer() -> None:
    with pytest.warns(UserWarning, match="layer 'dead' is constant"):
        table = svcca.similarity_matrix({"dead": torch.ones(200, 3), "live": layers()[0]})
    assert table.similarity.tolist() == pytest.approx([0, 0, 0, 1])


def test_the_example_in_the_docs_runs_on_torchvision_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "svcca.md").read_text()
    script = tmp_path / "example.py"
    script.write_text(page.split("```python\n")[1].split("```")[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = runpy.run_path(str(script))["table"]
    assert len(table) == 36
    assert table.similarity.between(0, 1).all()
    assert "layer_b" in capsys.readouterr().out


SVCCA_MISTAKES = {
    "variant": (lambda: svcca.pwcca(*layers(), "other"), "PWCCA variant is 'other'"),
    "criterion": (lambda: svcca.svcca(*layers(), criterion="other"), "criterion is 'other'"),
    "keep": (lambda: svcca.svcca(*layers(), 99), "keep is 99"),
    "dimensions": (lambda: svcca.svcca(*layers(), dimensions=0), "dimensions 0"),
    "measure": (lambda: svcca.similarity_matrix({"a": layers()[0]}, measure="other"), "measure is 'other'"),
    "no layers": (lambda: svcca.similarity_matrix({}), "no layers"),
    "a layer": (lambda: svcca.similarity_matrix({"a": layers()[0], "b": layers()[0] / 0}), "layer 'b' has 1200 non-finite"),
    "unequal": (lambda: svcca.similarity_matrix({"a": layers()[0], "b": layers(30)[0]}), "same examples"),
    "views": (lambda: svcca.folded(torch.zeros(3, 3)), r"feature maps have shape \(3, 3\)"),
    "fourier shape": (lambda: svcca.fourier_cca(torch.zeros(3, 3, 3), torch.zeros(3, 3)), r"x is shape \(3, 3, 3\)"),
    "fourier examples": (lambda: svcca.fourier_cca(torch.zeros(3, 3), torch.zeros(4, 3)), "3 and 4 examples"),
    "fourier nan": (lambda: svcca.fourier_cca(torch.zeros(3, 3), torch.zeros(3, 3) / 0), "y has 9 non-finite"),
}


@pytest.mark.parametrize("mistake", SVCCA_MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = SVCCA_MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()


# The official code's numbers


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
    factor = svcca.factorise(x)
    wanted = golden_case("cases", "G15_pca")["eigenvals_first5"]
    assert torch.linalg.svdvals(factor.coordinates)[:5].tolist() == pytest.approx(wanted, rel=1e-8)
    result = svcca.cca(x, y)
    a, b = result.directions_x.variates(x), result.directions_y.variates(y)
    correlations = [abs(torch.corrcoef(torch.stack([a[:, i], b[:, i]]))[0, 1].item()) for i in range(5)]
    assert correlations == pytest.approx(golden_case("cases", "G18_dirns")["abs_corr_of_pair_i (i=0..4)"], rel=1e-8)
