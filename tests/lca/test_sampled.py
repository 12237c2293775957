import itertools

import numpy as np
import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from scipy import stats
from torch import Tensor, nn

from replication import lca
from replication.errors import ReplicationError
from replication.lca import sampled as lca_sampled
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


def sampled(
    problem: tuple[Objective, Tensor], *, examples: int, seed: int = 0, fresh: bool = True, **settings
) -> lca_sampled.SampledLedger:
    objective, trajectory = problem
    subset = lca_sampled.random_subset(len(objective.labels), examples, seed=seed, fresh=fresh)
    return lca_sampled.along(objective, trajectory, subset=subset, **settings)


def exact_by_tensor(objective: Objective, trajectory: Tensor) -> np.ndarray:
    return lca.along(objective, trajectory, max_error=10, max_intervals=2).per_tensor[:, :, 0]


@pytest.mark.parametrize("batch_norm", [False, True])
def test_the_whole_set_gives_the_exact_sums_and_no_error(batch_norm: bool) -> None:
    objective, trajectory = problem(batch_norm=batch_norm)
    groups = 12 if batch_norm else 8
    if batch_norm:  # groups are other chunks than the exact measurement's, so only the absence of an error is exact
        ledger = sampled((objective, trajectory), examples=240, groups=groups)
        np.testing.assert_allclose(ledger.standard_error, 0, atol=1e-12)
        return
    ledger = sampled((objective, trajectory), examples=240, groups=groups)
    np.testing.assert_allclose(ledger.lca[:, : len(objective.layout)], exact_by_tensor(objective, trajectory), rtol=0, atol=1e-13)
    np.testing.assert_allclose(ledger.standard_error, 0, atol=1e-12)


def test_estimates_are_unbiased_and_their_intervals_cover_at_the_nominal_rate() -> None:
    """Over 200 seeds of one step: the mean is the exact sum, and t intervals of 90 % hold it 90 % of the time."""
    objective, trajectory = problem()
    exact = exact_by_tensor(objective, trajectory)[3]
    ledgers = [sampled((objective, trajectory), examples=40, groups=8, seed=seed, steps=range(3, 4)) for seed in range(200)]
    n_tensors = len(objective.layout)
    estimates, errors = (np.stack([getattr(each, name)[0, :n_tensors] for each in ledgers]) for name in ("lca", "standard_error"))
    z = (estimates.mean(0) - exact) / (estimates.std(0, ddof=1) / np.sqrt(200))
    assert np.abs(z).max() < 3.5
    covered = (np.abs(estimates - exact) <= stats.t.ppf(0.95, 7) * errors).mean()
    assert 0.85 < covered < 0.95
    np.testing.assert_allclose(np.sqrt((errors**2).mean(0)), estimates.std(0), rtol=0.25)


def test_a_layer_is_the_sum_of_its_tensors_with_an_error_of_its_own() -> None:
    objective, trajectory = problem()
    tables = sampled((objective, trajectory), examples=40, groups=5).tables()
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
    whole = sampled((objective, trajectory), **settings)
    parts = [sampled((objective, trajectory), steps=steps, **settings) for steps in (range(4, 10), range(4))]
    merged = lca_sampled.SampledLedger.merge(parts)
    assert merged.tables()["layers"].equals(whole.tables()["layers"])
    with pytest.raises(ReplicationError, match="every step once"):
        lca_sampled.SampledLedger.merge([parts[0], parts[0]])
    drawn = [lca_sampled.random_subset(240, 40, seed=3)(step) for step in (0, 1)]
    assert not torch.equal(*drawn)
    assert all(len(each.unique()) == 40 for each in drawn)
    fixed = sampled((objective, trajectory), fresh=False, **settings)
    assert not np.allclose(fixed.lca, whole.lca)


def test_a_fixed_subset_saves_the_gradient_at_the_start_of_each_step_and_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, trajectory = problem()
    carried = sampled((objective, trajectory), examples=40, groups=5, fresh=False)
    alone = [sampled((objective, trajectory), examples=40, groups=5, fresh=False, steps=range(t, t + 1)) for t in range(10)]
    np.testing.assert_allclose(carried.lca, lca_sampled.SampledLedger.merge(alone).lca, rtol=0, atol=1e-14)
    points: list[int] = []
    counted = Objective.gradients_on

    def counting(self: Objective, thetas: Tensor, members: Tensor, *, buffers: Tensor | None = None) -> Tensor:
        points.append(len(thetas))
        return counted(self, thetas, members, buffers=buffers)

    monkeypatch.setattr(Objective, "gradients_on", counting)
    sampled((objective, trajectory), examples=40, groups=5, fresh=False)
    assert sum(points) == 5 * (2 * 10 + 1), "two gradients a step and group, and one to begin with"


def test_standard_errors_are_those_of_sampling_without_replacement() -> None:
    """From the groups' own gradients: sqrt(variance of the groups / groups * (1 - m / n)), for a step and for the totals."""
    objective, trajectory = problem()
    subset = lca_sampled.random_subset(240, 180, fresh=False)
    ledger = lca_sampled.along(objective, trajectory, subset=subset, groups=6, steps=range(2, 4))
    by_group = []
    for members in subset(0).chunk(6):
        sums = []
        for start, end in itertools.pairwise(trajectory[2:5]):
            gradients = objective.gradients_on(torch.stack([start, (start + end) / 2, end]), members)
            change = (gradients[0] + 4 * gradients[1] + gradients[2]) / 6 * (end - start)
            sums.append(torch.stack([change[slot.slice].sum() for slot in objective.layout]))
        by_group.append(torch.stack(sums))
    estimates = torch.stack(by_group).numpy()  # [n_groups, n_steps, n_tensors]
    n_tensors, missing = len(objective.layout), 1 - 180 / 240
    np.testing.assert_allclose(ledger.standard_error[:, :n_tensors], np.sqrt(estimates.var(0, ddof=1) / 6 * missing), rtol=1e-9)
    totals = ledger.tables()["totals"]["standard_error"].to_numpy()[:n_tensors]
    np.testing.assert_allclose(totals, np.sqrt(estimates.sum(1).var(0, ddof=1) / 6 * missing), rtol=1e-9)


@pytest.mark.parametrize("fresh", [True, False])
def test_totals_are_unbiased_and_their_intervals_cover(fresh: bool) -> None:
    """Over 100 seeds, the errors of totals come from the groups' totals, so that what cancels or adds up over steps counts."""
    objective, trajectory = problem()
    exact = exact_by_tensor(objective, trajectory).sum(0)
    totals = [sampled((objective, trajectory), examples=40, groups=8, seed=seed, fresh=fresh).tables()["totals"] for seed in range(100)]
    tensors = [each[each["kind"] == "tensor"] for each in totals]
    estimates, errors = (np.stack([each[name].to_numpy() for each in tensors]) for name in ("lca", "standard_error"))
    assert np.abs((estimates.mean(0) - exact) / (estimates.std(0, ddof=1) / 10)).max() < 3.5
    assert 0.82 < (np.abs(estimates - exact) <= stats.t.ppf(0.95, 7) * errors).mean() < 0.97


def test_the_minibatches_that_made_the_steps_are_biased() -> None:
    """Why the subset must not be the step's own batch: along its own gradient the loss of those examples falls further."""
    objective, _ = problem()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randperm(240, generator=generator)[:20] for _ in range(10)]
    points = [objective.parameters()]
    for batch in batches:
        points.append(points[-1] - 0.3 * objective.gradients_on(points[-1][None], batch)[0])
    trajectory = torch.stack(points)
    exact = exact_by_tensor(objective, trajectory).sum()
    own = lca_sampled.along(objective, trajectory, subset=lambda step: batches[step], groups=2).tables()["totals"]
    assert own[own["kind"] == "tensor"]["lca"].sum() < 1.2 * exact < 0


def test_the_ledger_survives_its_file(tmp_path) -> None:
    objective, trajectory = problem()
    ledger = sampled((objective, trajectory), examples=20, groups=2)
    np.savez(tmp_path / "ledger.npz", **ledger.arrays())
    with np.load(tmp_path / "ledger.npz", allow_pickle=False) as arrays:
        again = lca_sampled.SampledLedger.from_arrays(dict(arrays))
    assert all(table.equals(again.tables()[name]) for name, table in ledger.tables().items())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"examples": 41, "groups": 5}, "subset of 41 examples is to be cut into 5 groups"),
        ({"examples": 241, "groups": 241}, "allowed: 1 to 240"),
        ({"examples": 40, "groups": 1}, "2 or more that divide it"),
        ({"examples": 40, "groups": 5, "intervals": 3}, "There are 3 intervals"),
        ({"examples": 40, "groups": 5, "steps": range(9, 12)}, "allowed: consecutive ones"),
    ],
)
def test_wrong_arguments_give_one_sentence(settings: dict, says: str) -> None:
    with pytest.raises(ReplicationError, match=says):
        sampled(problem(), **settings)


def test_subsets_of_different_sizes_are_refused() -> None:
    objective, trajectory = problem()
    with pytest.raises(ReplicationError, match="subset has 30 examples and the one before it 20"):
        lca_sampled.along(objective, trajectory, subset=lambda step: torch.arange(20 + 10 * step), groups=2)


def test_batch_statistics_ask_for_groups_of_a_chunk() -> None:
    objective, trajectory = problem(batch_norm=True)
    with pytest.raises(ReplicationError, match="chunks of 20 examples, and 10 are given"):
        sampled((objective, trajectory), examples=40, groups=4)
