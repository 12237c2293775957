"""Lines and eigenvalues of the networks that people bring, beside plain autograd on the untouched module."""

import pytest
import torch
import zoo

from replication import curvature, landscape
from replication.objective import Objective


@pytest.mark.parametrize("name", zoo.NAMES)
def test_lines_and_eigenvalues_of_the_zoo(name: str) -> None:
    member = zoo.build(name)
    objective = Objective(member.model, member.inputs, member.labels, dtype=torch.float64, **member.objective_arguments)
    theta = objective.parameters()
    direction = landscape.random_direction(member.model, landscape.axis_generator(seed=0, axis=0))
    table = landscape.line(objective, direction, [-0.5, 0.0, 0.5])
    for alpha, loss in zip(table["alpha"], table["loss"], strict=True):
        assert loss == pytest.approx(zoo.plain_value(member, theta + alpha * direction), rel=1e-6)
    ends = curvature.extremes(objective, tolerance=1e-2, max_products=40)
    for value, error, vector in (
        (ends.smallest, ends.smallest_error, ends.smallest_vector),
        (ends.largest, ends.largest_error, ends.largest_vector),
    ):
        step = 1e-7  # so small that no unit of a ReLU network switches
        slopes = [zoo.plain_gradient(member, theta + sign * step * vector) for sign in (1, -1)]
        product = (slopes[0] - slopes[1]) / (2 * step)  # central differences of the plain gradient
        assert (product - value * vector).norm().item() <= error + 1e-3 * abs(ends.largest)
    assert bool(ends.message) != ends.converged
