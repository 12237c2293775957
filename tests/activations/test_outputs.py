"""Layer outputs are the modules' outputs, and the model is given back as it was."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import zoo
from conftest import small_batch_norm_net, small_mlp
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from replication import activations, svcca
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
    with pytest.raises(ReplicationError, match=r"cannot run on these inputs, a Tensor with shapes \(8, 1, 2, 4\)"):
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


def test_chunks_one_after_the_other(examples: tuple[Tensor, Tensor]) -> None:
    model = small_mlp()
    batches = list(activations.layer_batches(model, examples[0], ["5", "2"], chunk=25))
    assert [len(batch["2"]) for batch in batches] == [25, 25, 10]
    assert torch.equal(torch.cat([batch["5"] for batch in batches]), activations.layer_outputs(model, examples[0], ["5"], chunk=25)["5"])


def test_one_layer_by_name_or_as_a_module(examples: tuple[Tensor, Tensor]) -> None:
    model = small_mlp()
    expected = activations.layer_outputs(model, examples[0], ["2"])["2"]
    assert torch.equal(activations.layer_outputs(model, examples[0], "2")["2"], expected)
    assert torch.equal(activations.layer_outputs(model, examples[0], [model[2], "5"])["2"], expected)


def test_every_call_of_a_module_has_a_name() -> None:
    model, x = Shared(), torch.randn(9, 4)
    outputs = activations.layer_outputs(model, x, ["relu#2", "relu#1"])
    assert list(outputs) == ["relu#2", "relu#1"]
    assert torch.equal(outputs["relu#1"], x.relu())


def test_parts_of_what_a_module_returns() -> None:
    model, x = Shared(), torch.randn(9, 4)
    outputs = activations.layer_outputs(model, x, ["table[out]", "lstm", "lstm[0]"])
    assert torch.equal(outputs["table[out]"], outputs["lstm"])
    assert torch.equal(outputs["lstm[0]"], outputs["lstm"])
    last = activations.layer_outputs(model, x, "lstm[1][0]", view=lambda state: state.transpose(0, 1))["lstm[1][0]"]
    assert torch.equal(last, outputs["lstm"]), "the last state of sequences of length 1"


class TwoNames(nn.Module):
    """One layer under two names, used once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(x)


def test_a_layer_under_two_names() -> None:
    outputs = activations.layer_outputs(TwoNames(), torch.randn(5, 3), ["first", "second"])
    assert torch.equal(outputs["first"], outputs["second"])


class TimeFirst(nn.Module):
    """Time comes first inside, which is the default of LSTM and of the transformer's layers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.transpose(0, 1))[0][-1]


@pytest.mark.parametrize("time", [10, 20, 30, 60])
@pytest.mark.parametrize("view", [None, lambda z: z[:, -1], lambda z: z.flatten(0, 1)])
def test_time_major_outputs_are_not_taken_for_examples(time: int, view: Callable[[Tensor], Tensor] | None) -> None:
    """Also where there are as many steps as examples, or a multiple of them."""
    model, x = TimeFirst(), torch.randn(20, time, 3)
    with pytest.raises(ReplicationError, match="Module 'lstm' gives"):
        activations.layer_outputs(model, x, ["lstm"], view=view)
    last = activations.layer_outputs(model, x, ["lstm"], view=lambda z: z[-1])["lstm"]
    assert torch.allclose(last, model(x), atol=1e-6)


class Packed(nn.Module):
    """Sequences of different lengths, longest first inside."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.lstm(packed)[1][0][0]


def test_packed_sequences_are_padded_in_the_order_of_the_examples() -> None:
    model, lengths = Packed(), torch.tensor([2, 6, 3, 6, 1, 4, 5, 6, 2, 6])
    x = torch.randn(10, 6, 3)
    states = activations.layer_outputs(model, (x, lengths), ["lstm"], view=lambda z: nn.functional.pad(z, (0, 0, 0, 6 - z.shape[1])))[
        "lstm"
    ]
    for state, sequence, length in zip(states, x, lengths.tolist(), strict=True):
        assert torch.allclose(state[:length], model.lstm(sequence[None, :length])[0][0], atol=1e-6)
        assert not state[length:].any()


class Sorted(nn.Module):
    """The layer sees the examples in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        return self.layer(x[order])[order.argsort()]


class Interacting(nn.Module):
    """The layer's output depends on the mean of the chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.BatchNorm1d(2, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Noisy(nn.Module):
    """Dropout that stays on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(nn.functional.dropout(x, 0.5, training=True))


@pytest.mark.parametrize("model", [Sorted(), Interacting(), Noisy()])
@pytest.mark.parametrize("n", [3, 30])
def test_rows_that_are_not_the_examples_by_themselves(model: nn.Module, n: int) -> None:
    with pytest.raises(ReplicationError, match="other values among other examples"):
        activations.layer_outputs(model, torch.randn(n, 2, generator=torch.Generator().manual_seed(1)), ["layer"])


class ByTheLargest(nn.Module):
    """The examples of a batch are divided by the largest number among them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x / x.abs().max())


class ClippedTogether(nn.Module):
    """Examples influence each other only where one of them has a number above 5."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x / (x.abs().max() / 5).clamp(min=1))


@pytest.mark.parametrize("n", [2, 3, 12, 30, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_examples_that_meet_in_one_number_of_the_batch(n: int, dtype: torch.dtype) -> None:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(n), dtype=dtype)
    with pytest.raises(ReplicationError, match="other values among other examples"):
        activations.layer_outputs(ByTheLargest(), x, ["layer"])


@pytest.mark.parametrize("place", [0, 37, 99])
@pytest.mark.parametrize("chunk", [10, 100])
def test_examples_that_meet_in_one_chunk_of_many(place: int, chunk: int) -> None:
    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    activations.layer_outputs(ClippedTogether(), x, ["layer"], chunk=chunk)
    x[place] = 20
    with pytest.raises(ReplicationError, match="other values among other examples"):
        activations.layer_outputs(ClippedTogether(), x, ["layer"], chunk=chunk)


def test_weak_influence_shows_in_float64() -> None:
    model = nn.Sequential(nn.Linear(2, 3)).double()
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model[0].register_forward_hook(lambda _module, _inputs, output: output + 1e-6 * output.mean())
    with pytest.raises(ReplicationError, match="other values among other examples"):
        activations.layer_outputs(model, x, [""])


class Squeezing(nn.Module):
    """An example alone loses its axis, and then has no rows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.squeeze())


def test_networks_that_do_not_run_on_one_example() -> None:
    model, x = Squeezing(), torch.randn(9, 2)
    assert torch.allclose(activations.layer_outputs(model, x, ["layer"])["layer"], model.layer(x))


def test_inputs_are_not_changed_by_a_forward_pass_in_place() -> None:
    x = torch.randn(9, 4)
    kept = x.clone()
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    for inputs in (x, (x,), TensorDataset(x, torch.zeros(9))):
        assert torch.allclose(activations.layer_outputs(model, inputs, ["1"])["1"], model[1](kept.relu()), atol=1e-6)
        assert torch.equal(x, kept)
    doubling = nn.Sequential(nn.Linear(4, 3))
    doubling.forward = lambda inputs: doubling[0](inputs.mul_(2))  # type: ignore[method-assign, assignment]
    assert torch.allclose(activations.layer_outputs(doubling, x, ["0"])["0"], doubling[0](2 * kept), atol=1e-6)
    assert torch.equal(x, kept)


def test_autocast_around_the_call_is_off_inside() -> None:
    model, x = small_mlp(), torch.randn(9, 1, 4, 4)
    expected = activations.layer_outputs(model, x, ["5"])["5"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(activations.layer_outputs(model, x, ["5"])["5"], expected)
        assert torch.is_autocast_enabled("cpu")


class Equal(nn.Linear):
    """A module that counts as equal to other ones."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, nn.Linear)

    def __hash__(self) -> int:
        return 0


def test_one_output_asked_for_twice_and_modules_that_count_as_equal() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), Equal(4, 4)), torch.randn(9, 4)
    outputs = activations.layer_outputs(model, x, ["0", "2", "0"])
    assert list(outputs) == ["0", "2"]
    assert torch.allclose(outputs["0"], model[0](x), atol=1e-6)
    assert torch.allclose(outputs["2"], model(x), atol=1e-6)


class Masked(nn.Module):
    """A transformer with a padding mask, for which PyTorch has a fused form that passes over the modules inside."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.where(x[:, 0, :1] > 0, 6, 3)
        out: Tensor = self.encoder(x, src_key_padding_mask=torch.arange(6) >= lengths)
        return out


def test_fused_attention_with_a_padding_mask() -> None:
    model, x = Masked(), torch.randn(8, 6, 8, generator=torch.Generator().manual_seed(0))
    outputs = activations.layer_outputs(model, x, ["encoder.layers.0", "encoder.layers.0.norm1"])
    layer = model.encoder.layers[0].eval()
    mask = torch.arange(6) >= torch.where(x[:, 0, :1] > 0, 6, 3)
    with torch.enable_grad():  # the plain form
        expected = layer(x, src_key_padding_mask=mask)
    assert torch.allclose(outputs["encoder.layers.0"], expected, atol=1e-5)
    assert outputs["encoder.layers.0.norm1"].shape == x.shape
    assert torch.backends.mha.get_fastpath_enabled()


class Differentiating(nn.Module):
    """Derivatives by the inputs are taken in the forward pass, without ``enable_grad``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        place = x.detach().requires_grad_()
        return torch.autograd.grad(self.net(place).square().sum(), place)[0]


def test_forward_passes_that_take_derivatives() -> None:
    x = torch.randn(12, 1)
    model = Differentiating()
    output = activations.layer_outputs(model, x, ["net", ""])
    assert torch.allclose(output["net"], model.net(x))
    assert not output["net"].requires_grad


def test_wrapped_models(examples: tuple[Tensor, Tensor]) -> None:
    model = small_mlp()
    expected = activations.layer_outputs(model, examples[0], ["2"])["2"]
    wrapped = nn.DataParallel(model)
    assert torch.equal(activations.layer_outputs(wrapped, examples[0], ["2"])["2"], expected)
    assert torch.equal(activations.layer_outputs(wrapped, examples[0], ["module.2"])["module.2"], expected)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(activations.layer_outputs(compiled, examples[0], ["_orig_mod.2"])["_orig_mod.2"], expected)
    model.compile(backend="eager")
    model(examples[0])  # compiled without our hooks
    assert torch.equal(activations.layer_outputs(model, examples[0], ["2"])["2"], expected)


X = torch.randn(21, 4, generator=torch.Generator().manual_seed(0))


class Inputs(Dataset[Tensor]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Tensor:
        return X[index]


class Streamed(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


SOURCES: dict[str, object] = {
    "tensor": X,
    "double": X.double(),
    "array": X.numpy(),
    "dict": {"input": X},
    "tuple": (X,),
    "pairs": TensorDataset(X, torch.zeros(21)),
    "inputs": TensorDataset(X),
    "own data set": Inputs(),
    "loader of pairs": DataLoader(TensorDataset(X, torch.zeros(21)), batch_size=4),
    "shuffled": DataLoader(TensorDataset(X, torch.zeros(21)), batch_size=4, shuffle=True),
    "loader of inputs": DataLoader(Inputs(), batch_size=4, shuffle=True),
    "stream": Streamed(),
    "loader of a stream": DataLoader(Streamed(), batch_size=4),
}


@pytest.mark.parametrize("source", SOURCES)
def test_inputs_in_every_form(source: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    model.forward = lambda input: model[0](input)  # type: ignore[method-assign, assignment]
    outputs = activations.layer_outputs(model, SOURCES[source], ["0"], chunk=6)["0"]
    assert torch.allclose(outputs, model[0](X), atol=1e-6)
    assert len(outputs) == 21


class Augmented(Inputs):
    """Other examples in every reading."""

    def __getitem__(self, index: int) -> Tensor:
        return X[index] + 0.3 * torch.randn(4)


class Entries(Dataset[object]):
    def __init__(self, entry: Callable[[int], object]) -> None:
        self.entry = entry

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> object:
        return self.entry(index)


@pytest.mark.parametrize("source", [Augmented(), DataLoader(Augmented(), batch_size=4)])
def test_data_that_differ_when_read_twice_are_refused(source: object) -> None:
    for run in (activations.layer_outputs, lambda *arguments: list(activations.layer_batches(*arguments))):
        with pytest.raises(ReplicationError, match="Two readings of the same examples differ"):
            run(nn.Linear(4, 3), source, [""])


def test_data_sets_with_several_inputs() -> None:
    bilinear = nn.Bilinear(4, 4, 2)
    outputs = activations.layer_outputs(bilinear, TensorDataset(X, X + 1, torch.zeros(21)), [""])[""]
    assert torch.allclose(outputs, bilinear(X, X + 1), atol=1e-6)
    named = Entries(lambda index: {"input": X[index], "labels": 0})
    linear = nn.Linear(4, 3)
    assert torch.allclose(activations.layer_outputs(linear, named, [""])[""], linear(X), atol=1e-6)


OTHER_SOURCES: dict[str, tuple[object, str]] = {
    "three entries": (TensorDataset(X, X, torch.zeros(21)), r"a tuple with shapes \(8, 4\), \(8, 4\) \(TypeError"),
    "other names": (Entries(lambda index: {"x": X[index], "y": 0}), r"a dict with shapes \(8, 4\), \(8,\) \(TypeError"),
    "list of pairs": (list(zip(X, range(21), strict=True)), r"a list of 21 tuples; give a tensor \[n_examples"),
}


@pytest.mark.parametrize("source", OTHER_SOURCES)
def test_inputs_that_the_network_cannot_run_on(source: str) -> None:
    inputs, message = OTHER_SOURCES[source]
    with pytest.raises(ReplicationError, match=message):
        activations.layer_outputs(nn.Linear(4, 3), inputs, [""])


def test_a_view_that_fails() -> None:
    with pytest.raises(ReplicationError, match=r"view fails on the output of '', shape \(21, 3\): IndexError"):
        activations.layer_outputs(nn.Linear(4, 3), X, [""], view=lambda output: output.mean((2, 3)))


def test_whole_numbers_stay_whole() -> None:
    ids = torch.randint(300, (10, 5), generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Embedding(300, 2), nn.Flatten()).bfloat16()
    assert torch.equal(activations.layer_outputs(model, ids, ["0"])["0"], model[0](ids))


@pytest.mark.parametrize("name", zoo.NAMES)
def test_zoo_members_against_plain_hooks_and_numpy(name: str) -> None:
    member = zoo.build(name)
    outputs = activations.layer_outputs(member.model, member.inputs, member.layers, view=member.features, chunk=7)
    plain: dict[str, Tensor] = {}
    model = copy.deepcopy(member.model).eval()
    for layer in member.layers:
        model.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: plain.update({layer: output[0] if isinstance(output, tuple) else output})
        )
    zoo.call(model, member.inputs)
    for layer, output in outputs.items():
        assert torch.allclose(output, member.features(plain[layer]), atol=1e-5)
    table = svcca.similarity_matrix(outputs, measure="linear_cka").set_index(["layer_a", "layer_b"])["similarity"]
    for (a, b), similarity in table.items():
        x, y = (plain_features - plain_features.mean(0) for plain_features in (outputs[z].double().numpy() for z in (a, b)))
        expected = np.square(x.T @ y).sum() / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
        assert similarity == pytest.approx(expected, abs=1e-9)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "name": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["lstn"]), r"no module 'lstn' \(did you mean 'lstm'\?\)"),
    "twice": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["relu"]), "'relu' runs 2 times"),
    "call": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["relu#3"]), "'relu#3' was asked for, and its module runs 2"),
    "never": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["unused"]), "'unused' runs 0 times"),
    "no tensor": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["table"]), r"'table' returns a dict.*'table\[out\]'"),
    "part": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["table[in]"]), "no part 'in'; allowed: out"),
    "foreign": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), [nn.ReLU()]), "A ReLU was given as a layer"),
    "no layers": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), []), "No layers"),
    "chunk": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["lstm"], chunk=0), "chunks of 0"),
    "empty data set": (lambda: activations.layer_outputs(Shared(), TensorDataset(torch.zeros(0, 4)), ["lstm"]), "0 inputs"),
    "rows": (lambda: activations.layer_outputs(Shared(), torch.zeros(2, 4), ["merge"]), r"'merge' gives shape \(6,\) for 2 examples"),
    "none": (lambda: activations.layer_outputs(Shared(), torch.zeros(0, 4), ["lstm"]), "0 inputs"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    with pytest.raises(ReplicationError, match="TorchScript"):
        activations.layer_outputs(torch.jit.script(nn.Linear(4, 2)), X, [""])


class Unmasked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.layer(x)).mean(1))


class OfManyLengths(Dataset[Any]):
    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.randn(2 + index % 4, 4, generator=torch.Generator().manual_seed(index)), index % 3


def in_one_batch(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return nn.utils.rnn.pad_sequence([item for item, _ in items], batch_first=True), torch.tensor([label for _, label in items])


def test_layers_that_see_padding_are_refused_and_others_are_not() -> None:
    loader = DataLoader(OfManyLengths(), batch_size=1, collate_fn=in_one_batch)
    torch.manual_seed(0)
    with pytest.raises(ReplicationError, match="other values among other examples"):
        activations.layer_outputs(Unmasked(), loader, ["out"])
    assert activations.layer_outputs(Unmasked(), loader, ["layer"])["layer"].shape == (9, 5, 5)
