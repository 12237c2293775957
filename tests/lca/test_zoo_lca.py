"""Loss change allocation of every member of the zoo, against plain autograd: sums of allocations, and their components."""

import copy

import numpy as np
import pytest
import torch
import zoo
from torch import Tensor

from replication import lca
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.recorder import Recorder


def trained(member: zoo.Member, steps: int) -> Recorder:
    """A recorded training."""
    model = copy.deepcopy(member.model)
    with Recorder(model) as recorder:
        member.train(model, steps, after_step=recorder.step, rate=0.02)
    return recorder


def at_row(member: zoo.Member, recorder: Recorder, row: int) -> zoo.Member:
    """The member with the statistics of a row."""
    again = zoo.build(member.name)
    again.model.load_state_dict(recorder.path.tensors(row), strict=False)
    return again


@pytest.mark.parametrize("name", zoo.NAMES)
def test_allocations_sum_to_the_loss_change_and_are_integrals_of_the_gradient(name: str) -> None:
    member = zoo.build(name)
    recorder = trained(member, 3)
    objective = Objective(member.model, member.inputs, member.labels, dtype=torch.float64, **member.objective_arguments)
    table = lca.along(objective, recorder, max_error=1e-9).tables()
    steps = table["steps"]
    rows = [torch.as_tensor(row.copy()).double() for row in recorder.trajectory]
    losses = [zoo.plain_value(at_row(member, recorder, number), theta) for number, theta in enumerate(rows)]
    np.testing.assert_allclose(steps["loss_start"], losses[:-1], rtol=1e-6)
    summed = steps["lca"] + steps.get("statistics", 0) + steps["error"]
    np.testing.assert_allclose(summed, np.diff(losses), rtol=0, atol=1e-7)
    assert ("statistics" in steps) == member.batch_norm
    fine = _fine_integral(at_row(member, recorder, 2), rows[1], rows[2])
    expected = np.array([fine[slot.slice].sum() for slot in objective.layout])
    measured = table["layers"].query("step == 1")["lca"].to_numpy()
    assert np.abs(measured - expected).max() <= 1e-3 * np.abs(expected).max()


def _fine_integral(member: zoo.Member, start: Tensor, end: Tensor, points: int = 12) -> Tensor:
    """The integral of each component of the plain gradient along the segment, by Gauss and Legendre's rule."""
    places, weights = np.polynomial.legendre.leggauss(points)
    gradients = [zoo.plain_gradient(member, start + (place + 1) / 2 * (end - start)) for place in places]
    return sum(weight / 2 * gradient for weight, gradient in zip(weights, gradients, strict=True)) * (end - start)


def test_splitting_by_class_needs_one_label_per_example() -> None:
    for name in ("unet", "mlp_regression"):
        member = zoo.build(name)
        objective = Objective(member.model, member.inputs, member.labels, **member.objective_arguments)
        with pytest.raises(ReplicationError, match="label"):
            lca.along(objective, trained(member, 1), by_class=True)
    member = zoo.build("masked_transformer")
    objective = Objective(member.model, member.inputs, member.labels, dtype=torch.float64, **member.objective_arguments)
    tables = lca.along(objective, trained(member, 1), by_class=True).tables()
    assert tables["classes"]["lca"].sum() == pytest.approx(tables["layers"]["lca"].sum(), abs=1e-12)
