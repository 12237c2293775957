import copy
import itertools
import math

import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective import Objective, layout_of
from replication.objective.vector import flatten

Examples = tuple[Tensor, Tensor]


def reference(model: nn.Module, examples: Examples) -> tuple[float, Tensor]:
    """Value and gradient of the mean cross-entropy by plain autograd in one batch, float64."""
    duplicate = copy.deepcopy(model).double()
    loss = nn.functional.cross_entropy(duplicate(examples[0].double()), examples[1])
    gradients = torch.autograd.grad(loss, list(duplicate.parameters()))
    return loss.item(), flatten(gradients)


@pytest.mark.parametrize("build", [small_mlp, lambda: small_batch_norm_net().eval()], ids=["mlp", "batch norm, running"])
@pytest.mark.parametrize("chunk", [None, 7, 60])
def test_value_and_gradient_equal_plain_autograd_whatever_the_chunk(build, chunk: int | None, examples: Examples) -> None:
    model = build()
    objective = Objective(model, *examples, chunk=chunk, dtype=torch.float64)
    value, gradient = objective.value_and_gradient(objective.parameters())
    expected_value, expected_gradient = reference(model, examples)
    assert value == pytest.approx(expected_value, abs=1e-14)
    assert objective.value(objective.parameters()) == pytest.approx(expected_value, abs=1e-14)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-14)


def test_gradient_equals_central_differences(examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(small_mlp(nn.Softplus), *examples, dtype=torch.float64)
    theta = objective.parameters()
    gradient = objective.gradient(theta)
    for direction in torch.randn(5, objective.n_parameters, generator=generator, dtype=torch.float64):
        step = 1e-5 * direction
        slope = (objective.value(theta + step) - objective.value(theta - step)) / 2e-5
        assert slope == pytest.approx((gradient @ direction).item(), rel=1e-7)


@pytest.mark.parametrize("build", [small_mlp, small_batch_norm_net], ids=["mlp", "convolution"])
def test_several_points_equal_one_at_a_time(build, examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(build(), *examples, chunk=13)
    points = objective.parameters() + 0.1 * torch.randn(3, objective.n_parameters, generator=generator, dtype=torch.float64)
    values, gradients = objective.values_and_gradients(points)
    for point, value, gradient in zip(points, values, gradients, strict=True):
        alone = objective.value_and_gradient(point)
        assert value.item() == pytest.approx(alone[0], rel=1e-6)
        torch.testing.assert_close(gradient, alone[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
@pytest.mark.parametrize("build", [small_mlp, small_batch_norm_net], ids=["mlp", "batch norm"])
def test_class_gradients_sum_to_the_gradient(build, batch_norm: str, examples: Examples) -> None:
    objective = Objective(build(), *examples, chunk=20, batch_norm=batch_norm, dtype=torch.float64)
    theta = objective.parameters()
    by_class = objective.gradient_by_class(theta)
    assert by_class.shape == (3, objective.n_parameters)
    torch.testing.assert_close(by_class.sum(0), objective.gradient(theta), rtol=0, atol=1e-14)
    assert all(row.norm() > 1e-3 for row in by_class)


def test_a_class_gradient_is_that_of_its_examples_alone(examples: Examples) -> None:
    images, labels = examples
    whole = Objective(small_mlp(), images, labels, dtype=torch.float64)
    theta = whole.parameters()
    for label, row in enumerate(whole.gradient_by_class(theta)):
        members = labels == label
        alone = Objective(small_mlp(), images[members], labels[members], dtype=torch.float64).gradient(theta)
        torch.testing.assert_close(row, alone * members.double().mean(), rtol=0, atol=1e-14)


def test_batch_statistics_of_fixed_chunks_define_the_loss(examples: Examples) -> None:
    """The mean over chunks of a training-mode forward pass, and neither the running loss nor that of another chunk size."""
    model = small_batch_norm_net()
    training = copy.deepcopy(model).double().train()
    chunks = zip(examples[0].double().split(20), examples[1].split(20), strict=True)
    expected = sum(nn.functional.cross_entropy(training(images), labels).item() for images, labels in chunks) / 3
    values = {}
    for name, options in {"20": {"batch_norm": "batch", "chunk": 20}, "30": {"batch_norm": "batch", "chunk": 30}, "running": {}}.items():
        objective = Objective(model, *examples, dtype=torch.float64, **options)
        values[name] = objective.value(objective.parameters())
    assert values["20"] == pytest.approx(expected, abs=1e-12)
    assert abs(values["20"] - values["30"]) > 1e-6
    assert abs(values["20"] - values["running"]) > 1e-3


def test_hessian_vector_product_equals_the_dense_hessian(examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(small_mlp(nn.Tanh), *examples, chunk=17, dtype=torch.float64)
    theta = objective.parameters()
    vector = torch.randn(objective.n_parameters, generator=generator, dtype=torch.float64)
    step = 1e-5
    difference = (objective.gradient(theta + step * vector) - objective.gradient(theta - step * vector)) / (2 * step)
    torch.testing.assert_close(objective.hessian_vector_product(theta, vector), difference, rtol=1e-6, atol=1e-8)
    columns = torch.stack([objective.hessian_vector_product(theta, row) for row in torch.eye(20, objective.n_parameters)])
    torch.testing.assert_close(columns[:, :20], columns[:, :20].T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch_norm", ["running", "batch"])
def test_the_model_is_given_back_unchanged_also_after_an_exception(batch_norm: str, examples: Examples) -> None:
    model = small_batch_norm_net().train()
    before = copy.deepcopy(model.state_dict())
    objective = Objective(model, *examples, chunk=20, batch_norm=batch_norm)
    objective.value_and_gradient(objective.parameters() * 2)
    with pytest.raises(ReplicationError, match="shape"):
        objective.gradient_by_class(torch.zeros(3))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_dropout_is_off(examples: Examples) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 3)).train()
    objective = Objective(model, *examples)
    assert objective.value(objective.parameters()) == objective.value(objective.parameters())


def test_layout_covers_the_vector_without_gaps() -> None:
    slots = layout_of(small_mlp())
    assert [slot.name for slot in slots] == ["1.weight", "1.bias", "3.weight", "3.bias", "5.weight", "5.bias"]
    assert [slot.layer for slot in slots] == ["1", "1", "3", "3", "5", "5"]
    assert slots[0].start == 0
    assert all(left.stop == right.start for left, right in itertools.pairwise(slots))
    assert slots[-1].slice == slice(7 * 16 + 7 + 35 + 5 + 15, 7 * 16 + 7 + 35 + 5 + 15 + 3)


def test_the_gradient_is_finite_difference_free_of_the_dtype(examples: Examples) -> None:
    """float32 arithmetic stays within its rounding of float64."""
    single, double = (Objective(small_mlp(), *examples, dtype=dtype) for dtype in (torch.float32, torch.float64))
    theta = double.parameters()
    assert single.gradient(theta).dtype == torch.float64
    torch.testing.assert_close(single.gradient(theta), double.gradient(theta), rtol=1e-4, atol=1e-6)


def test_wrong_arguments_give_one_sentence(examples: Examples) -> None:
    images, labels = examples
    with pytest.raises(ReplicationError, match="60 inputs and 59 labels"):
        Objective(small_mlp(), images, labels[:-1])
    with pytest.raises(ReplicationError, match="0 inputs"):
        Objective(small_mlp(), images[:0], labels[:0])
    for chunk in (None, 50):
        with pytest.raises(ReplicationError, match="divides the 60 examples" + (", and 50 does not" if chunk else "")):
            Objective(small_batch_norm_net(), images, labels, batch_norm="batch", chunk=chunk)
    objective = Objective(small_mlp(), images, labels)
    for method in (objective.value, objective.gradient):
        with pytest.raises(ReplicationError, match=r"shape \(5,\)"):
            method(torch.zeros(5))


def test_a_missing_accuracy_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    objective = Objective(nn.Linear(2, 1), torch.randn(6, 2), torch.randn(6, 1), loss="mse")
    with caplog.at_level("INFO"):
        for _ in range(2):
            assert math.isnan(objective.evaluate(objective.parameters()).accuracy)
    assert caplog.text.count("Accuracy is nan") == 1
