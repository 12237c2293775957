import numpy as np
import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from scipy import stats
from torch import Tensor, nn

from replication import lca, lca_sampled
from replication.errors import ReplicationError
from replication.objective import Objective


def problem(n: int = 240, batch_norm: bool = False) -> tuple[Objective, Tensor]:
    """An objective and a noisy descent of ten steps."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 3
    images = torch.randn(n, 1, 4, 4, generator=generator) + labels[:, None, None, None]
    if batch_norm:
        objective = Objective(small_batch_norm_net(), images, labels, batch_norm="batch", chunk=20, dtype=torch.float64)
    else:
        objective = Objective(small_mlp(nn.Tanh), images, labels, dtype=torch.float64)
    points = [objective.parameters()]
    for _ in range(10):
        noise = torch.randn(objective.n_parameters, generator=generator, dtype=torch.float64)
        points.append(points[-1] - 0.3 * objective.gradient(points[-1]) + 0.02 * noise)
    return objective, torch.stack(points)


def exact_by_tensor(objective: Objective, trajectory: Tensor) -> np.ndarray:
    return lca.along(objective, trajectory, max_error=10, max_intervals=2).per_tensor[:, :, 0]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_whole_set_gives_the_exact_sums_and_no_error(batch_norm: bool) -> None:
    objective, trajectory = problem(batch_norm=batch_norm)
    groups = 12 if batch_norm else 8
    if batch_norm:  # groups are other chunks than the exact measurement's, so only the absence of an error is exact
        ledger = lca_sampled.along(objective, trajectory, examples=240, groups=groups)
        np.testing.assert_allclose(ledger.standard_error, 0, atol=1e-12)
        return
    ledger = lca_sampled.along(objective, trajectory, examples=240, groups=groups)
    np.testing.assert_allclose(ledger.lca[:, : len(objective.layout)], exact_by_tensor(objective, trajectory), rtol=0, atol=1e-13)
    np.testing.assert_allclose(ledger.standard_error, 0, atol=1e-12)


def test_estimates_are_unbiased_and_their_intervals_cover_at_the_nominal_rate() -> None:
    """Over 200 seeds of one step: the mean is the exact sum, and t intervals of 90 % hold it 90 % of the time."""
    objective, trajectory = problem()
    exact = exact_by_tensor(objective, trajectory)[3]
    ledgers = [lca_sampled.along(objective, trajectory, examples=40, groups=8, seed=seed, steps=range(3, 4)) for seed in range(200)]
    n_tensors = len(objective.layout)
    estimates, errors = (np.stack([getattr(each, name)[0, :n_tensors] for each in ledgers]) for name in ("lca", "standard_error"))
    z = (estimates.mean(0) - exact) / (estimates.std(0, ddof=1) / np.sqrt(200))
    assert np.abs(z).max() < 3.5
    covered = (np.abs(estimates - exact) <= stats.t.ppf(0.95, 7) * errors).mean()
    assert 0.85 < covered < 0.95
    np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), estimates.std(0), rtol=0.25)


def test_a_layer_is_the_sum_of_its_tensors_with_an_error_of_its_own() -> None:
    objective, trajectory = problem()
    tables = lca_sampled.along(objective, trajectory, examples=40, groups=5).tables()
    tensors = tables["tensors"].assign(layer=tables["tensors"]["tensor"].str.rpartition(".")[0])
    summed = tensors.groupby(["step", "layer"])[["lca", "parameters"]].sum()
    layers = tables["layers"].set_index(["step", "layer"])
    np.testing.assert_allclose(summed["lca"].loc[layers.index], layers["lca"], rtol=0, atol=1e-14)
    assert (summed["parameters"].loc[layers.index] == layers["parameters"]).all()
    independent = np.sqrt(tensors.assign(v=tensors["standard_error"] ** 2).groupby(["step", "layer"])["v"].sum()).loc[layers.index]
    assert (np.abs(independent / layers["standard_error"] - 1) > 0.05).any(), "errors within a layer go together"
    assert (layers["groups"] == 5).all()


def test_subsets_are_fresh_in_every_step_unless_asked_otherwise_and_do_not_depend_on_the_spans() -> None:
    objective, trajectory = problem()
    settings = {"examples": 40, "groups": 5, "seed": 3}
    whole = lca_sampled.along(objective, trajectory, **settings)
    parts = [lca_sampled.along(objective, trajectory, steps=steps, **settings) for steps in (range(4, 10), range(4))]
    merged = lca_sampled.SampledLedger.merge(parts)
    assert merged.tables()["layers"].equals(whole.tables()["layers"])
    with pytest.raises(ReplicationError, match="every step once"):
        lca_sampled.SampledLedger.merge([parts[0], parts[0]])
    drawn = [lca_sampled._subset(240, 40, 3, step) for step in (0, 1)]
    assert not torch.equal(*drawn)
    assert all(len(each.unique()) == 40 for each in drawn)
    fixed = lca_sampled.along(objective, trajectory, fresh=False, **settings)
    assert not np.allclose(fixed.lca, whole.lca)


def test_the_ledger_survives_its_file(tmp_path) -> None:
    objective, trajectory = problem()
    ledger = lca_sampled.along(objective, trajectory, examples=20, groups=2)
    np.savez(tmp_path / "ledger.npz", **ledger.arrays())
    with np.load(tmp_path / "ledger.npz", allow_pickle=False) as arrays:
        again = lca_sampled.SampledLedger.from_arrays(dict(arrays))
    assert all(table.equals(again.tables()[name]) for name, table in ledger.tables().items())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"examples": 41, "groups": 5}, "examples is 41 and groups 5"),
        ({"examples": 241, "groups": 241}, "at most 240"),
        ({"examples": 40, "groups": 1}, "2 or more groups"),
        ({"examples": 40, "groups": 5, "intervals": 3}, "intervals is 3"),
        ({"examples": 40, "groups": 5, "steps": range(9, 12)}, "allowed: consecutive ones"),
    ],
)
def test_wrong_arguments_give_one_sentence(settings: dict, says: str) -> None:
    with pytest.raises(ReplicationError, match=says):
        lca_sampled.along(*problem(), **settings)


def test_batch_statistics_ask_for_groups_of_a_chunk() -> None:
    objective, trajectory = problem(batch_norm=True)
    with pytest.raises(ReplicationError, match="chunks of 20 examples, and 10 are given"):
        lca_sampled.along(objective, trajectory, examples=40, groups=4)
