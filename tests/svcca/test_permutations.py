"""p-values of similarities and distances."""

import numpy as np
import pytest
import torch
from scipy import stats
from svcca_layers import layers

from replication import svcca
from replication.errors import ReplicationError


def correlation(x: torch.Tensor, y: torch.Tensor) -> float:
    return abs(torch.corrcoef(torch.stack([x[:, 0], y[:, 0]]))[0, 1].item())


def test_p_value_is_that_of_scipy(generator: torch.Generator) -> None:
    x, y = torch.randn(2, 12, 1, generator=generator, dtype=torch.float64).unbind()
    result = svcca.permutation_test(correlation, x, x + 2 * y, permutations=2000, generator=generator)
    a, b = x[:, 0].numpy(), (x + 2 * y)[:, 0].numpy()
    expected = stats.permutation_test(
        (a,), lambda a: abs(np.corrcoef(a, b)[0, 1]), permutation_type="pairings", alternative="greater", n_resamples=2000, rng=0
    )
    assert result.observed == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue, abs=0.04)


def test_values_and_p_value_belong_together(generator: torch.Generator) -> None:
    x, y = layers(30)
    result = svcca.permutation_test(svcca.cca, x, y, permutations=50)
    assert result.observed == svcca.cca(x, y).similarity
    assert result.p_value == (1 + int((result.permuted >= result.observed).sum())) / 51
    distance = svcca.permutation_test(lambda a, b: 1 - svcca.cca(a, b).similarity, x, y, permutations=50, alternative="less")
    assert distance.p_value == result.p_value
    assert torch.allclose(distance.permuted, 1 - result.permuted)
    other = svcca.permutation_test(svcca.cca, x, y, permutations=50, generator=generator.manual_seed(1))
    assert not torch.equal(other.permuted, result.permuted)


def test_independent_layers_have_uniform_p_values(generator: torch.Generator) -> None:
    pairs = [torch.randn(2, 10, 3, generator=generator).unbind() for _ in range(100)]
    values = [svcca.permutation_test(svcca.linear_cka, *pair, permutations=19, generator=generator).p_value for pair in pairs]
    assert 0 < np.mean(np.array(values) <= 0.2) < 0.4


@pytest.mark.parametrize("measure", [svcca.cca, svcca.pwcca])
def test_a_measure_that_is_one_whatever_the_data_proves_nothing(measure: object) -> None:
    x = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    assert svcca.permutation_test(measure, x, x.square(), permutations=20).p_value == 1  # type: ignore[arg-type]


def test_arrays(generator: torch.Generator) -> None:
    x, y = (z.numpy() for z in layers(30))
    assert svcca.permutation_test(svcca.linear_cka, x, y, permutations=20, generator=generator).p_value == 1 / 21


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"permutations": 0}, "0 permutations"),
        ({"alternative": "two-sided"}, "'two-sided'"),
        ({"measure": lambda a, b: float("nan")}, "gives nan"),
        ({"y": layers(29)[1]}, "same examples"),
        ({"x": layers(1)[0], "y": layers(1)[1]}, "two examples or more"),
    ],
)
def test_mistakes_are_told(change: dict[str, object], message: str) -> None:
    arguments = {"measure": svcca.linear_cka, "x": layers(30)[0], "y": layers(30)[1]} | change
    with pytest.raises(ReplicationError, match=message):
        svcca.permutation_test(**arguments)  # type: ignore[arg-type]
