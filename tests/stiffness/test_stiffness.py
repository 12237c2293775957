import math

import numpy as np
import pytest
import torch
from conftest import small_mlp
from golden import golden
from sklearn.metrics.pairwise import cosine_distances, cosine_similarity
from torch import Tensor, nn

from replication import models, stiffness
from replication.errors import ReplicationError
from replication.stiffness import ClassMatrix

Examples = tuple[Tensor, Tensor]
LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0])


@pytest.fixture
def gradients(generator: torch.Generator) -> Tensor:
    return torch.randn(8, 20, generator=generator, dtype=torch.float64)


def mean_of_pairs(values: np.ndarray, labels: np.ndarray, first: int, second: int, *, include_self: bool = False) -> float:
    pairs = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if (i != j or include_self)]
    return float(np.mean([values[i, j] for i, j in pairs if labels[i] == first and labels[j] == second]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("include_self", [False, True])
def test_class_matrix_equals_a_loop_over_pairs(gradients: Tensor, dtype: torch.dtype, include_self: bool) -> None:
    gram = (gradients @ gradients.T).to(dtype)
    for kind, values in (("sign", np.sign(gram.numpy())), ("cosine", cosine_similarity(gradients.numpy()))):
        matrix = stiffness.class_matrix(gram, LABELS, kind, include_self=include_self)
        expected = [[mean_of_pairs(values, LABELS.numpy(), a, b, include_self=include_self) for b in range(3)] for a in range(3)]
        np.testing.assert_allclose(matrix.mean.numpy(), expected, atol=1e-6 if dtype == torch.float32 else 1e-14)
        assert matrix.within() == pytest.approx(np.diag(expected).mean(), abs=1e-6)
        assert matrix.between() == pytest.approx(np.asarray(expected)[~np.eye(3, dtype=bool)].mean(), abs=1e-6)
        assert matrix.pairs.diag().tolist() == ([9, 9, 4] if include_self else [6, 6, 2])


def test_weighting_by_pairs(gradients: Tensor) -> None:
    values = cosine_similarity(gradients.numpy())
    matrix = stiffness.class_matrix(gradients @ gradients.T, LABELS, "cosine")
    same = (LABELS[:, None] == LABELS[None, :]).numpy()
    assert matrix.within(weighting="pair") == pytest.approx(values[same & ~np.eye(8, dtype=bool)].mean(), abs=1e-14)
    assert matrix.between(weighting="pair") == pytest.approx(values[~same].mean(), abs=1e-14)


def test_identical_pairs_raise_the_diagonal_by_what_they_must(gradients: Tensor) -> None:
    gram, labels = gradients @ gradients.T, torch.arange(2).repeat(4)
    without, with_self = (stiffness.class_matrix(gram, labels, "cosine", include_self=flag).mean for flag in (False, True))
    torch.testing.assert_close(with_self.diag() - without.diag(), (1 - without.diag()) / 4)
    torch.testing.assert_close(with_self[0, 1], without[0, 1])


def test_training_by_validation(examples: Examples) -> None:
    model, train, validation = small_mlp(), tuple(t[:20] for t in examples), tuple(t[20:50] for t in examples)
    whole = stiffness.gram(model, *(t[:50] for t in examples))["total"]
    block = stiffness.gram(model, *train, columns=validation)["total"]
    norms = tuple(stiffness.squared_norms(model, *side)["total"] for side in (train, validation))
    cosines = whole / whole.diag().sqrt().outer(whole.diag().sqrt())
    for kind, values in (("cosine", cosines), ("sign", whole.sign())):
        matrix = stiffness.class_matrix(block, train[1], kind, column_labels=validation[1], squared_norms=norms)
        expected = [[values[:20, 20:50][train[1] == a][:, validation[1] == b].mean() for b in range(3)] for a in range(3)]
        torch.testing.assert_close(matrix.mean, torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=0)
        assert int(matrix.pairs.sum()) == 600


def test_examples_in_another_order_change_nothing(gradients: Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(8, generator=generator)
    gram = gradients @ gradients.T
    torch.testing.assert_close(stiffness.class_matrix(gram, LABELS).mean, stiffness.class_matrix(gram[order][:, order], LABELS[order]).mean)


def test_zero_gradients_and_non_finite_values_are_counted_and_no_zero_stiffness() -> None:
    gradients = torch.tensor([[1.0, 0], [0, 1], [0, 0], [1, 1], [2, 2], [3, 3]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    matrix = stiffness.class_matrix(gradients @ gradients.T, labels)
    assert matrix.mean.tolist() == [[0, 1], [1, 1]]
    assert matrix.pairs.tolist() == [[2, 6], [6, 6]]
    assert matrix.zero_products.tolist() == [[2, 0], [0, 0]]  # orthogonal: a stiffness of zero
    assert matrix.zero_gradients.tolist() == [[4, 3], [3, 0]]
    gradients[5] = torch.nan
    for kind in ("sign", "cosine"):
        spoilt = stiffness.class_matrix(gradients @ gradients.T, labels, kind)
        assert spoilt.mean.isnan().tolist() == [[False, True], [True, True]]
        assert spoilt.non_finite.tolist() == [[0, 3], [3, 4]]
        assert math.isnan(spoilt.within())
        assert math.isnan(spoilt.between())
    table = stiffness.table({"total": gradients @ gradients.T}, labels)
    assert math.isnan(table.within_sign[0])
    assert table.non_finite[0] == 10
    assert table.zero_gradients[0] == 8


def test_a_class_with_only_pairs_that_are_not_finite_spoils_the_mean() -> None:
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [torch.nan, 1.0]], dtype=torch.float64)
    for kind in ("sign", "cosine"):
        matrix = stiffness.class_matrix(gradients @ gradients.T, torch.tensor([0, 0, 1, 1]), kind)
        assert matrix.pairs.tolist() == [[2, 2], [2, 0]]
        assert matrix.non_finite[1, 1] == 2
        assert math.isnan(matrix.within())
        assert math.isnan(matrix.within(weighting="pair"))


def test_a_class_of_one_example_has_no_pair_within() -> None:
    gram, labels = torch.eye(3, dtype=torch.float64) + 1, torch.tensor([0, 0, 7])
    matrix = stiffness.class_matrix(gram, labels, "cosine")
    assert matrix.classes.tolist() == [0, 7]
    assert math.isnan(matrix.mean[1, 1])
    assert matrix.within() == pytest.approx(0.5)
    assert matrix.table().pairs.tolist() == [2, 2, 2, 0]
    assert math.isnan(stiffness.class_matrix(gram[:1, :1], labels[:1]).statistics()["off_mean"])


def test_tiny_gradients_keep_their_cosine() -> None:
    gradients = torch.tensor([[1e-160, 0.0], [1e-160, 1e-160]], dtype=torch.float64)
    matrix = stiffness.class_matrix(gradients @ gradients.T * 1.0, torch.tensor([0, 0]), "cosine")
    assert matrix.mean.item() == pytest.approx(math.sqrt(0.5), rel=1e-2)  # products of 1e-320 have few digits, and are not zero


def test_analytic_values_at_the_start() -> None:
    """Near-uniform outputs and aligned features: cosine 1 within a class and -1 / (classes - 1) between ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 200), nn.ReLU(), nn.Linear(200, 50), nn.ReLU(), nn.Linear(50, 10))
        images = 1 + 0.3 * torch.rand(60, 64)
    images = images / images.norm(dim=1, keepdim=True)
    labels = torch.arange(60) % 10
    total = stiffness.gram(model, images, labels)["total"]
    cosines, signs = stiffness.class_matrix(total, labels, "cosine"), stiffness.class_matrix(total, labels)
    assert cosines.within() == pytest.approx(1, abs=0.02)
    assert cosines.between() == pytest.approx(-1 / 9, abs=0.02)
    assert signs.within() == 1
    assert signs.between() == pytest.approx(-1, abs=0.02)


def test_last_layer_is_never_opposed_within_a_class(examples: Examples) -> None:
    """Why the within-class sign is nearly trivial: the factor (p - e_c) . (q - e_c) is positive, and features are not negative."""
    grams = stiffness.gram(small_mlp(), *examples)
    assert stiffness.class_matrix(grams["5"], examples[1]).within() == 1


@pytest.mark.parametrize("name", ["stiffness_cnn", "stiffness_resnet20"])
def test_papers_networks_at_the_start(name: str, generator: torch.Generator) -> None:
    model = models.build(name, classes=4, channels=3, seed=0, image_size=8).eval()
    labels = torch.arange(16) % 4
    table = stiffness.table(stiffness.gram(model, torch.randn(16, 3, 8, 8, generator=generator), labels), labels).set_index("layer")
    assert table.within_sign["total"] > 0.9
    assert table.between_cosine["total"] < 0
    assert table.trace_share.drop("total").sum() == pytest.approx(1)


def test_coherence_diversity_confusion_and_noise_scale(gradients: Tensor) -> None:
    gram, mean = gradients @ gradients.T, gradients.mean(0)
    assert stiffness.coherence(gram) == pytest.approx((8 * mean.square().sum() / gradients.square().sum(1).mean()).item(), rel=1e-12)
    assert stiffness.coherence(gram) * stiffness.diversity(gram) == pytest.approx(1)
    assert stiffness.coherence(torch.eye(5)) == 1
    assert stiffness.coherence(torch.ones(5, 5)) == 5
    assert stiffness.confusion(gram) == pytest.approx(-min(gram[i, j].item() for i in range(8) for j in range(8) if i != j))
    covariance = gradients.var(0, correction=1).sum().item()
    unbiased = mean.square().sum().item() - covariance / 8
    assert stiffness.noise_scale(gram) == pytest.approx(covariance / unbiased, rel=1e-10)
    assert math.isnan(stiffness.noise_scale(gram[:1, :1]))
    assert math.isnan(stiffness.confusion(gram[:1, :1]))
    assert math.isnan(stiffness.confusion(gram * torch.nan))


def test_bootstrap_is_over_examples(generator: torch.Generator) -> None:
    shared = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    gradients = torch.randn(60, 6, generator=generator, dtype=torch.float64) + shared.repeat(20, 1)
    labels = torch.arange(60) % 3
    pairs = stiffness.pairs_of(gradients @ gradients.T, labels, "cosine")
    sample = stiffness.bootstrap(pairs, generator=generator, resamples=200)
    matrix = stiffness.class_matrix(gradients @ gradients.T, labels, "cosine")
    assert sample.within.mean() == pytest.approx(matrix.within(), abs=3 * sample.within.std())
    pair_error = pairs.stiffness[pairs.used & (labels[:, None] == labels[None, :])].std().item() / math.sqrt(3 * 20 * 19 / 2)
    assert sample.within.std() > 1.5 * pair_error
    spoilt = stiffness.pairs_of((gradients @ gradients.T).fill_diagonal_(math.nan), labels, "cosine")
    assert stiffness.bootstrap(spoilt, generator=generator, resamples=2).isna().all().all()


def golden_matrix(step: str) -> tuple[ClassMatrix, dict[str, float]]:
    panel = golden("stiffness_golden.json")["v1_fig6_cnn_cifar10_adam_lr_1em3"][step]
    mean = torch.tensor(panel["rows_class2_cols_class1"], dtype=torch.float64).T
    counts = [torch.full(mean.shape, number) for number in (1, 0, 0, 0)]
    return ClassMatrix(torch.arange(10), mean, *counts), panel


@pytest.mark.parametrize("step", ["0", "1600", "672000", "1584000"])
def test_statistics_of_the_published_matrices(step: str) -> None:
    matrix, panel = golden_matrix(step)
    for name, value in matrix.statistics().items():
        assert value == pytest.approx(panel[name], abs=0.01 if name == "max_asym" else 0.0015), name
    assert matrix.within() == pytest.approx(panel["diag_mean"], abs=0.0015)
    assert matrix.between() == pytest.approx(panel["off_mean"], abs=0.0015)


def test_crossings_of_the_published_curves() -> None:
    curves = golden("stiffness_golden.json")["v1_fig9_fc_mnist_bs32"]
    for name, expected in (("layer5", curves["upper_zero_crossing_cos"]["layer5"]), ("input_layer0", None)):
        x, y = np.array([float(key) for key in curves[name]]), np.array(list(curves[name].values()))
        crossing = stiffness.upper_crossing(x, y)
        assert math.isnan(crossing) if expected is None else crossing == pytest.approx(expected, abs=0.01)


def test_upper_crossing() -> None:
    assert stiffness.upper_crossing(np.array([0.9, 0.1, 0.5, 0.7]), np.array([1.0, -1.0, np.nan, -1.0])) == pytest.approx(0.8)
    assert stiffness.upper_crossing(np.array([0.1, 0.5]), np.array([0.0, 1.0])) == pytest.approx(0.1)
    for falling in ([1.0, -1.0], [1.0, 2.0], [], [np.nan, np.nan], [-1.0, 0.0]):
        assert math.isnan(stiffness.upper_crossing(np.arange(len(falling)), np.array(falling)))
    with pytest.raises(ReplicationError, match="one for each"):
        stiffness.upper_crossing(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_equal_scikit_learn(generator: torch.Generator, dtype: torch.dtype) -> None:
    images = torch.randn(6, 2, 3, 3, generator=generator, dtype=dtype)
    more = torch.randn(4, 2, 3, 3, generator=generator, dtype=dtype)
    left, right = images.flatten(1).double().numpy(), more.flatten(1).double().numpy()
    np.testing.assert_allclose(stiffness.distances(images).numpy(), cosine_distances(left), atol=1e-14)
    np.testing.assert_allclose(stiffness.distances(images, more).numpy(), cosine_distances(left, right), atol=1e-14)
    unit = left / np.linalg.norm(left, axis=1, keepdims=True)
    np.testing.assert_allclose(stiffness.distances(images)[0, 1], np.square(unit[0] - unit[1]).sum() / 2, atol=1e-14)
    assert stiffness.distances(torch.zeros(1, 3), torch.ones(1, 3)).isnan().all()
    with pytest.raises(ReplicationError, match="same number"):
        stiffness.distances(images, more[:, :1])


def cosine_gram(line: Tensor) -> Tensor:
    """A matrix whose cosines off the diagonal are the entries of ``line``."""
    return line.clone().fill_diagonal_(1.0)


@pytest.fixture
def spread(generator: torch.Generator) -> Tensor:
    distances = torch.rand(12, 12, generator=generator, dtype=torch.float64)
    return (distances + distances.T) / 2


def test_critical_length_of_a_line_is_exact(spread: Tensor, generator: torch.Generator) -> None:
    labels = torch.arange(12) % 2
    inside = stiffness.critical_length(cosine_gram(0.3 - 0.5 * spread), spread, labels, generator=generator, resamples=20)
    assert (inside.length, inside.slope, inside.intercept) == pytest.approx((0.6, -0.5, 0.3), abs=1e-12)
    assert (inside.low, inside.high) == pytest.approx((0.6, 0.6), abs=1e-9)
    assert not inside.degenerate
    assert not inside.extrapolated
    assert inside.pairs == 60
    outside = stiffness.critical_length(cosine_gram(0.9 - 0.5 * spread), spread, labels)
    assert outside.length == pytest.approx(1.8)
    assert outside.extrapolated
    assert outside.largest_distance < 1
    assert math.isnan(outside.low)


def test_critical_length_equals_polyfit(spread: Tensor, generator: torch.Generator) -> None:
    gradients, labels = torch.randn(12, 5, generator=generator, dtype=torch.float64), torch.arange(12) % 3
    gram = gradients @ gradients.T
    same = (labels[:, None] == labels[None, :]).numpy()
    off = ~np.eye(12, dtype=bool)
    for among, mask in (("within", same & off), ("between", ~same), ("all", off)):
        for kind, values in (("cosine", cosine_similarity(gradients.numpy())), ("sign", np.sign(gram.numpy()))):
            fit = stiffness.critical_length(gram, spread, labels, kind=kind, among=among)
            slope, intercept = np.polyfit(spread.numpy()[mask], values[mask], 1)
            assert (fit.slope, fit.intercept) == pytest.approx((slope, intercept), abs=1e-12)
            assert fit.degenerate == (slope >= 0)
            assert math.isnan(fit.length) if slope >= 0 else fit.length == pytest.approx(-intercept / slope)


def test_critical_length_of_two_sets(generator: torch.Generator) -> None:
    distances = torch.rand(6, 9, generator=generator, dtype=torch.float64)
    fit = stiffness.critical_length(
        0.4 - distances, distances, torch.zeros(6), column_labels=torch.zeros(9), squared_norms=(torch.ones(6), torch.ones(9)),
        generator=generator, resamples=10,
    )  # fmt: skip
    assert (fit.length, fit.low, fit.high, fit.pairs) == pytest.approx((0.4, 0.4, 0.4, 54))


def test_degenerate_fits_have_no_length(spread: Tensor, generator: torch.Generator) -> None:
    labels, settings = torch.zeros(12), {"generator": generator, "resamples": 5}
    for gram, distances in [
        (torch.ones(12, 12), spread),  # all signs +1: the trivial case
        (cosine_gram(0.2 + 0.5 * spread), spread),  # rises
        (cosine_gram(0.3 - 0.5 * spread), torch.full((12, 12), 0.3, dtype=torch.float64)),
        (torch.zeros(12, 12), spread),  # no gradients
        (cosine_gram(spread - 0.5) * torch.nan, spread),
        (cosine_gram(0.3 - 0.5 * spread), spread * torch.nan),
    ]:
        fit = stiffness.critical_length(gram, distances, labels, **settings)
        assert math.isnan(fit.length)
        assert fit.degenerate
        assert not fit.extrapolated
        assert math.isnan(fit.low)
        assert fit.undefined_resamples == 5


def test_a_slope_that_is_rounding_gives_no_length(spread: Tensor) -> None:
    labels = torch.zeros(12)
    for slope, degenerate in ((1e-9, False), (1e-14, True)):
        fit = stiffness.critical_length(cosine_gram(0.3 - slope * spread), spread, labels)
        assert fit.slope < 0
        assert fit.degenerate == degenerate
        assert math.isnan(fit.length) == degenerate


def test_one_pair_that_is_not_finite_spoils_the_length(spread: Tensor) -> None:
    gram = cosine_gram(0.3 - 0.5 * spread)
    gram[2, 4] = torch.inf
    fit = stiffness.critical_length(gram, spread, torch.zeros(12))
    assert math.isnan(fit.length)
    assert fit.non_finite == 1
    gram[2, 4], gram[3, :], gram[:, 3] = 0.1, 0.0, 0.0
    fit = stiffness.critical_length(gram, spread, torch.zeros(12))
    assert fit.zero_gradients == 22
    assert fit.pairs == 110


def test_bins_hold_every_pair_once(spread: Tensor) -> None:
    gram, labels = cosine_gram(1 - 2 * spread), torch.arange(12) % 2
    edges = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.5], dtype=torch.float64)
    curve = stiffness.binned(gram, spread, labels, kind="sign", edges=edges)
    assert curve.pairs.sum() == 132
    assert curve.stiffness[:4].tolist() == [1, 1, -1, -1]
    assert math.isnan(curve.stiffness[4])
    assert stiffness.upper_crossing(curve.similarity.to_numpy(), -curve.stiffness.to_numpy()) == pytest.approx(0.5, abs=0.1)
    ends = stiffness.binned(torch.ones(2, 2), torch.tensor([[1.0, 1.0], [1.0, 1.0]]), torch.zeros(2), edges=torch.tensor([0.0, 1.0]))
    assert ends.pairs.tolist() == [2]
    spoilt = stiffness.binned(gram * torch.nan, spread, labels, edges=edges)
    assert spoilt.stiffness.isna().all()
    assert spoilt.non_finite.sum() == 132


def test_group_contrast_equals_a_loop_and_finds_blocks(generator: torch.Generator) -> None:
    groups = torch.arange(20) // 5
    noise = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    blocks = noise + 2.0 * (groups[:, None] == groups[None, :])
    contrast = stiffness.group_contrast(blocks, groups, generator=generator, permutations=999)
    cells = [(a, b) for a in range(20) for b in range(20) if a != b]
    inside = np.mean([blocks[a, b] for a, b in cells if groups[a] == groups[b]])
    outside = np.mean([blocks[a, b] for a, b in cells if groups[a] != groups[b]])
    assert contrast.difference == pytest.approx(inside - outside)
    assert contrast.p_value == pytest.approx(0.001)
    random = stiffness.group_contrast(blocks, torch.randperm(20, generator=generator) // 5, generator=generator, permutations=999)
    assert random.p_value > 0.05
    spoilt = stiffness.group_contrast(blocks * torch.nan, groups, generator=generator, permutations=9)
    assert math.isnan(spoilt.difference)
    assert math.isnan(spoilt.p_value)


def test_permutation_test_is_exact_on_small_groupings(generator: torch.Generator) -> None:
    """Four classes in two pairs: three groupings, each as likely, so the best has a p of a third."""
    matrix = torch.tensor([[9.0, 1, 0, 0], [1, 9, 0, 0], [0, 0, 9, 1], [0, 0, 1, 9]])
    best = stiffness.group_contrast(matrix, torch.tensor([5, 5, 2, 2]), generator=generator, permutations=20_000)
    assert best.difference == 1
    assert best.p_value == pytest.approx(1 / 3, abs=0.01)


def test_levels() -> None:
    groups, kingdoms = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1])
    near = (groups[:, None] == groups[None, :]).double() + (kingdoms[:, None] == kingdoms[None, :]).double() + torch.eye(6)
    table = stiffness.levels(near, groups, kingdoms)
    assert table.level.tolist() == ["same class", "same super-class", "same kingdom", "rest"]
    assert table.stiffness.tolist() == [3, 2, 1, 0]
    assert table.cells.tolist() == [6, 6, 8, 16]
    assert stiffness.levels(near, groups).cells.tolist() == [6, 6, 24]


def test_mistakes_are_one_sentence(spread: Tensor, generator: torch.Generator) -> None:
    labels, eight = torch.zeros(12), torch.zeros(8)
    for call, message in [
        (lambda: stiffness.class_matrix(spread, labels, "angle"), "choose 'sign' or 'cosine'"),
        (lambda: stiffness.class_matrix(spread, eight), r"shape \(12, 12\).*8 and 8"),
        (lambda: stiffness.class_matrix(spread, labels, column_labels=labels), "give both"),
        (lambda: stiffness.class_matrix(spread, labels, column_labels=labels, squared_norms=(eight, labels)), "squared norms have shapes"),
        (lambda: stiffness.table({"fc": spread[:5]}, labels), "'fc' has shape"),
        (lambda: stiffness.critical_length(spread, spread[:5], labels), r"\(5, 12\)"),
        (lambda: stiffness.critical_length(spread, spread, labels, among="some"), "'within', 'between' or 'all'"),
        (lambda: stiffness.binned(spread, spread, labels, edges=torch.tensor([1.0, 0.0])), "larger than the one before"),
        (lambda: stiffness.group_contrast(spread, eight, generator=generator), r"shape \(12, 12\) and 8"),
        (lambda: stiffness.group_contrast(spread, labels, generator=generator), "0 between groups"),
        (lambda: stiffness.levels(spread, eight), "give each class one"),
    ]:
        with pytest.raises(ReplicationError, match=message) as caught:
            call()
        assert str(caught.value).endswith(".")
