"""Layer outputs are the modules' outputs, and the model is given back as it was."""

from collections.abc import Callable

import pytest
import torch
from conftest import small_batch_norm_net, small_mlp
from torch import Tensor, nn

from replication import activations
from replication.errors import ReplicationError


class Shared(nn.Module):
    """One ReLU used twice, an in-place operation, an LSTM, and modules that do not run or return no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.relu, self.inplace = nn.Linear(4, 4), nn.ReLU(), nn.ReLU(inplace=True)
        self.lstm = nn.LSTM(4, 3, batch_first=True)
        self.unused, self.table, self.merge = nn.Linear(1, 1), Table(), nn.Flatten(0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lstm(self.inplace(self.linear(self.relu(self.relu(x))))[:, None])[0]
        self.merge(self.table(out)["out"])
        return out


class Table(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": x}


def state(model: nn.Module) -> list[object]:
    hooks = [len(m._forward_hooks) for m in model.modules()]
    return [*(m.training for m in model.modules()), *hooks, *(v.clone().flatten().tolist() for v in model.state_dict().values())]


@pytest.mark.parametrize("chunk", [1, 7, 60, 100])
def test_outputs_are_those_of_the_truncated_network(examples: tuple[Tensor, Tensor], chunk: int) -> None:
    model = small_mlp()
    outputs = activations.layer_outputs(model, examples[0], ["5", "2", ""], chunk=chunk)
    assert list(outputs) == ["5", "2", ""]
    assert torch.allclose(outputs["2"], model[:3](examples[0]), atol=1e-6)
    assert torch.allclose(outputs["5"], model(examples[0]), atol=1e-6)
    assert torch.equal(outputs[""], outputs["5"])
    assert not outputs["2"].requires_grad


def test_evaluation_mode_and_the_model_is_given_back(examples: tuple[Tensor, Tensor]) -> None:
    model = small_batch_norm_net().train()
    model[2].eval()
    before = state(model)
    outputs = activations.layer_outputs(model, examples[0], ["1"], chunk=13)
    assert state(model) == before
    assert torch.allclose(outputs["1"], model.eval()[:2](examples[0]), atol=1e-6)


def test_the_model_is_given_back_after_an_exception(examples: tuple[Tensor, Tensor]) -> None:
    model = small_batch_norm_net().train()
    before = state(model)
    with pytest.raises(RuntimeError):
        activations.layer_outputs(model, examples[0][:, :, :2], ["1"])
    assert state(model) == before
    assert torch.is_grad_enabled()


def test_in_place_operations_do_not_show_and_the_first_tensor_is_taken() -> None:
    model, x = Shared(), torch.randn(9, 4)
    outputs = activations.layer_outputs(model, x, ["linear", "lstm"], chunk=4)
    assert torch.allclose(outputs["linear"], model.linear(x.relu()), atol=1e-6)
    assert outputs["linear"].min() < 0
    assert outputs["lstm"].shape == (9, 1, 3)


def test_views_are_applied_chunk_by_chunk(examples: tuple[Tensor, Tensor]) -> None:
    model = small_batch_norm_net()
    means = activations.layer_outputs(model, examples[0], ["0"], view=lambda z: z.mean((2, 3)), chunk=7)["0"]
    assert torch.allclose(means, model[0](examples[0]).mean((2, 3)), atol=1e-6)
    folded = activations.layer_outputs(model, examples[0], ["0"], view=lambda z: z.movedim(1, -1).flatten(0, -2), chunk=7)["0"]
    assert folded.shape == (60 * 16, 4)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "name": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["lstn"]), r"no module 'lstn' \(did you mean 'lstm'\?\)"),
    "twice": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["relu"]), "'relu' runs 2 times"),
    "never": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["unused"]), "'unused' runs 0 times"),
    "no tensor": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["table"]), "'table' returns a dict"),
    "rows": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["merge"]), r"'merge' gives shape \(6,\) for 2 examples"),
    "none": (lambda: activations.layer_outputs(Shared(), torch.zeros(0, 4), ["lstm"]), "0 inputs"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()
