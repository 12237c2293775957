"""Unusual arguments and settings of torch: the right number, or one sentence that says what to give instead."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from replication.errors import ReplicationError
from replication.objective import Objective
from replication.stiffness import class_matrix, gram, squared_norms

X, Y = torch.randn(12, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3)).eval()


@pytest.mark.parametrize(
    "options",
    [
        {"batch_norm": "Batch"},
        {"metric": "f1"},
        {"chunk": -1},
        {"chunk": 0},
        {"chunk": 2.5},
        {"weight_decay": float("nan")},
        {"weight_decay": -1.0},
        {"dtype": torch.int64},
    ],
)
def test_an_unknown_option_is_one_sentence(options: dict[str, Any]) -> None:
    with pytest.raises(ReplicationError):
        Objective(perceptron(), X, Y, **options)


def test_options_of_a_gram_matrix() -> None:
    for options in ({"chunk": 2.5}, {"chunk": 0}, {"layers": []}, {"memory": -1}):
        with pytest.raises(ReplicationError):
            gram(perceptron(), X, Y, **options)


def test_vectors_as_arrays_and_lists() -> None:
    objective = Objective(perceptron(), X, Y, weight_decay=0.1)
    theta = objective.parameters()
    direction = torch.ones_like(theta)
    assert objective.value(theta.numpy()) == objective.value(theta.tolist()) == objective.value(theta)
    assert objective.evaluate(theta.numpy()) == objective.evaluate(theta)
    assert torch.equal(objective.gradient(theta.tolist()), objective.gradient(theta))
    product = objective.hessian_vector_product(theta.numpy(), direction.numpy())
    assert torch.equal(product, objective.hessian_vector_product(theta, direction))
    assert torch.equal(gram(perceptron(), X, Y, theta=theta.numpy())["total"], gram(perceptron(), X, Y, theta=theta)["total"])
    for wrong in ("text", [1.0, "a"], None, np.zeros(3)):
        with pytest.raises(ReplicationError, match="vector"):
            objective.value(wrong)


def test_examples_with_a_graph_or_from_inference_mode_are_data() -> None:
    expected = Objective(perceptron(), X, Y)
    theta = expected.parameters()
    with torch.inference_mode():
        inferred, labels = X.clone(), Y.clone()
    teacher = nn.Linear(6, 6)
    for inputs, targets in ((X.clone().requires_grad_(), Y), (inferred, labels)):
        objective = Objective(perceptron(), inputs, targets)
        assert torch.equal(objective.gradient(theta), expected.gradient(theta))
        assert torch.equal(gram(perceptron(), inputs, targets)["total"], gram(perceptron(), X, Y)["total"])
    Objective(perceptron(), teacher(X), Y).gradient(theta)
    assert teacher.weight.grad is None


def test_autocast_around_a_call_changes_nothing() -> None:
    plain, expected = Objective(perceptron(), X, Y), gram(perceptron(), X, Y, dtype=torch.float32)
    theta = plain.parameters()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective = Objective(perceptron(), X, Y)
        assert torch.equal(objective.gradient(theta), plain.gradient(theta))
        assert objective.evaluate(theta) == plain.evaluate(theta)
        assert torch.equal(gram(perceptron(), X, Y, dtype=torch.float32)["total"], expected["total"])
        squared_norms(perceptron(), X, Y)


def test_autocast_inside_of_forward() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = perceptron()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.body(x)

    model = Mixed()
    objective = Objective(model, X, Y)
    assert objective.value(objective.parameters()) == pytest.approx(F.cross_entropy(model(X), Y).item(), rel=1e-2)


def test_losses_of_a_wrong_kind() -> None:
    for instrument in (Objective, gram):
        with pytest.raises(ReplicationError, match="complex"):
            instrument(perceptron(), X, Y, loss=lambda outputs, labels: F.cross_entropy(outputs, labels, reduction="none") * (1 + 2j))
    with pytest.raises(ReplicationError, match="the loss function detaches them"):
        squared_norms(perceptron(), X, Y, loss=lambda outputs, labels: (outputs.argmax(1) != labels).long())
    for labels in ((Y,), [Y]):
        with pytest.raises(ReplicationError, match="labels"):
            Objective(perceptron(), X, labels)

    class Total(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sum()

    with pytest.raises(ReplicationError, match="one number for all examples"):
        Objective(Total(6, 3), X, Y)


def test_networks_and_examples_that_cannot_be_used_are_one_sentence() -> None:
    class InPlace(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.relu_(super().forward(x))
            hidden += 1
            return hidden

    with pytest.raises(ReplicationError, match="gradient of the loss cannot be taken"):
        Objective(InPlace(6, 3), X, Y).gradient(torch.zeros(21))
    with pytest.raises(ReplicationError, match="complex64"):
        Objective(nn.Linear(6, 3, dtype=torch.complex64), X, Y)
    with pytest.raises(ReplicationError, match="meta device"):
        Objective(nn.Linear(6, 3, device="meta"), X, Y)
    with pytest.raises(ReplicationError, match="sparse"):
        Objective(perceptron(), X.to_sparse(), Y)
    with pytest.raises(ReplicationError, match="no numbers"):
        Objective(perceptron(), X, np.array(["a"] * 12))


def test_sparse_embeddings_have_second_derivatives() -> None:
    def network(*, sparse: bool) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Embedding(7, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 3))

    ids = torch.arange(24).view(12, 2) % 7
    sparse, dense = (Objective(network(sparse=sparse), ids, Y) for sparse in (True, False))
    theta = dense.parameters()
    assert torch.equal(sparse.hessian_vector_product(theta, theta), dense.hessian_vector_product(theta, theta))


def test_a_compiled_submodule() -> None:
    model = perceptron()
    model[0] = torch.compile(model[0], backend="eager")  # type: ignore[assignment]
    objective = Objective(model, X, Y)
    assert torch.equal(objective.gradient(objective.parameters()), Objective(perceptron(), X, Y).gradient(objective.parameters()))


def test_a_data_set_that_augments_at_random_is_refused() -> None:
    class Augmented(Dataset[Any]):
        def __len__(self) -> int:
            return 12

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return X[index] + 0.3 * torch.randn(6), Y[index]

    for instrument in (Objective, gram, squared_norms):
        with pytest.raises(ReplicationError, match="Two readings"):
            instrument(perceptron(), Augmented())


def test_an_encoder_that_averages_over_padding() -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(4, 3)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.head(self.encoder(x, src_key_padding_mask=mask).mean(1))

    torch.manual_seed(0)
    model = Encoder().eval()
    mask = torch.arange(3) > torch.arange(6)[:, None] % 3
    rows = gram(model, (torch.randn(6, 3, 4), mask), torch.arange(6) % 3)
    assert rows["total"].isfinite().all()


def test_derivatives_inside_of_forward_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    class Forces(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            energy = torch.tanh(super().forward(x)).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]

    objective = Objective(Forces(6, 3), X, Y)
    objective.gradient(objective.parameters())
    assert "Traceback" not in capsys.readouterr().err


def test_indices_of_examples() -> None:
    objective = Objective(perceptron(), X, Y)
    thetas = objective.parameters()[None]
    assert torch.equal(objective.gradients_on(thetas, [0, 3]), objective.gradients_on(thetas, torch.tensor([0, 3])))  # type: ignore[arg-type]
    for wrong in ([99], [], [0.5], [True, False]):
        with pytest.raises(ReplicationError, match="indices of examples"):
            objective.gradients_on(thetas, wrong)  # type: ignore[arg-type]


def test_matrices_of_pairs_as_arrays() -> None:
    rows = gram(perceptron(), X, Y)["total"]
    matrix = class_matrix(rows.numpy(), Y.numpy())  # type: ignore[arg-type]
    assert torch.equal(matrix.mean, class_matrix(rows, Y).mean)
    with pytest.raises(ReplicationError, match="no entries"):
        class_matrix(torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64))
