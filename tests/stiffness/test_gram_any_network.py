"""The Gram matrix on networks that a layer-by-layer shortcut gets wrong, against plain autograd one example at a time."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from replication.errors import ReplicationError
from replication.stiffness import gram, squared_norms

N, FEATURES, CLASSES = 12, 6, 3
Build = Callable[[], nn.Module]


def example_inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(N, FEATURES, generator=generator), torch.randint(CLASSES, (N,), generator=generator)


def built(build: Build, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval().to(dtype)


def plain(model: nn.Module, inputs: Tensor, labels: Tensor, names: list[str] | None = None) -> Tensor:
    """Products of the gradients of each example alone, in float64."""
    model = model.double()
    rows = []
    for number in range(len(labels)):
        example = inputs[number : number + 1]
        model.zero_grad(set_to_none=True)
        losses = F.cross_entropy(model(example.double() if example.is_floating_point() else example), labels[number : number + 1])
        if losses.requires_grad:
            losses.backward()
        pieces = [
            torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for n, p in model.named_parameters() if not names or n in names
        ]
        rows.append(torch.cat([piece.flatten() for piece in pieces]))
    return torch.stack(rows) @ torch.stack(rows).T


class Sorted(nn.Module):
    """Examples in another order inside of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(5, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 5].argsort(descending=True)
        return self.head(torch.tanh(self.encode(x[order, :5]))[order.argsort()])


class MaskedInPlace(nn.Module):
    """An output that is changed after the layer has returned it."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(2, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(len(x), 3, 2)
        hidden = self.encode(tokens)
        hidden.masked_fill_(tokens[..., :1] < 0, 0.0)
        return self.head(hidden.mean(1))


class InPlaceFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(FEATURES, 2), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.encode(x), inplace=True))


class InPlaceShortcut(nn.Module):
    """The shortcut sees what the in-place activation leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(FEATURES, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.first(x)
        return self.head(shortcut + self.second(self.relu(shortcut)))


class Experts(nn.Module):
    """A mixture of experts that routes examples; ``threshold`` makes the second expert rare."""

    def __init__(self, threshold: float = 0.0) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList(nn.Linear(FEATURES, 8) for _ in range(2)), nn.Linear(8, CLASSES)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 8)
        for number, expert in enumerate(self.experts):
            rows = ((x[:, 0] > self.threshold) == bool(number)).nonzero()[:, 0]
            if len(rows):
                out = out.index_put((rows,), expert(x[rows]))
        return self.head(torch.tanh(out))


class PaddedExperts(nn.Module):
    """Each expert sees as many rows as there are examples, in an order of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList(nn.Linear(FEATURES, 8) for _ in range(2)), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        mine = (x[:, 0] > 0).long()
        order = mine.argsort(stable=True)
        outputs = torch.stack([expert(x[order]) for expert in self.experts], 1)
        return self.head(torch.tanh(outputs[order.argsort(), mine]))


class TiedAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(FEATURES, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.tanh(self.encode(x)), self.encode.weight.T)[:, :CLASSES]


class TiedModules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decode, self.encode, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        self.encode.weight = self.decode.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.decode(torch.tanh(self.encode(x)))))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.again, self.head = nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(torch.tanh(self.again(x))))


class PackedLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.recurrent, self.head = nn.Linear(1, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        lengths, order = x[:, 0].abs().mul(3).long().clamp(1, 5).sort(descending=True, stable=True)
        packed = nn.utils.rnn.pack_padded_sequence(self.encode(x[order, 1:, None]), lengths, batch_first=True)
        return self.head(self.recurrent(packed)[1][0][-1])[order.argsort()]


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], batch_first: bool) -> None:
        super().__init__()
        self.recurrent, self.head, self.batch_first = kind(1, 5, batch_first=batch_first), nn.Linear(5, CLASSES), batch_first

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.recurrent(x[..., None] if self.batch_first else x.T[..., None])[0]
        return self.head(outputs[:, -1] if self.batch_first else outputs[-1])


class TimeMajor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(1, 8), nn.Linear(8, CLASSES)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.encode(x[..., None]).transpose(0, 1)).mean(0))


class Patches(nn.Module):
    """Patches that lie on the first axis with the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.Linear(2, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.encode(x.reshape(-1, 2))).view(len(x), 3, 8).mean(1))


class Positions(nn.Module):
    """Positions that are broadcast over the batch, as many as there are examples in a chunk of six."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.position, self.head = nn.Linear(1, 8), nn.Linear(1, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        positions = self.position(torch.arange(FEATURES, dtype=x.dtype)[:, None])
        return self.head(torch.relu(self.encode(x[..., None]) + positions).mean(1))


class OwnParameters(nn.Module):
    """A class token, positions and a layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.scale = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.full((8,), 0.1))
        self.encode, self.norm, self.head = nn.Linear(1, 8), nn.RMSNorm(8), nn.Linear(8, CLASSES)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.encode(x[..., None])], 1)
        tokens = tokens + self.scale * self.attention(tokens, tokens, tokens)[0]
        return self.head(self.norm(tokens)[:, 0])


class Frozen(nn.Module):
    """A backbone under ``no_grad``, a detached branch, and a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.branch, self.unused, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(2, 2), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = torch.tanh(self.backbone(x))
        return self.head(features + self.branch(features).detach())


class AllFrozen(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 0.5 * gradient


class Binary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(StraightThrough.apply(self.first(x)))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.stem, self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.reentrant = reentrant

    def block(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(torch.tanh(self.first(x))))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.block, self.stem(x), use_reentrant=self.reentrant))


class ScaledLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0.3


class PartialConvolution(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :3]


class StoredActivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.head(x)
        return self.kept


class Squashed(nn.Module):
    """Keyword inputs of a layer, which forward hooks do not see."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix, self.head = nn.Linear(6, 4), nn.Bilinear(4, 6, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.mix(self.first(input=x), x)))


def mlp(hidden: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(hidden or nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def hooked(kind: str) -> nn.Module:
    model = mlp()
    if kind == "forward":
        model[0].register_forward_hook(lambda _module, _inputs, output: 2 * output)
    elif kind == "pre":
        model[0].register_forward_pre_hook(lambda _module, inputs: (3 * inputs[0],))
    elif kind == "parent":
        model.register_forward_hook(lambda _module, _inputs, output: output * output)
    else:
        model[2].register_full_backward_hook(lambda _module, inputs, _outputs: (0.5 * inputs[0],))
    return model


def pruned(*, removed: bool) -> nn.Module:
    model = mlp()
    prune.l1_unstructured(model[0], "weight", 0.5)
    if removed:
        prune.remove(model[0], "weight")
    return model


NETWORKS: dict[str, Build] = {
    "sorted": Sorted,
    "masked in place": MaskedInPlace,
    "in-place function": InPlaceFunction,
    "in-place shortcut": InPlaceShortcut,
    "experts": Experts,
    "rare expert": lambda: Experts(1.5),
    "padded experts": PaddedExperts,
    "tied autoencoder": TiedAutoencoder,
    "tied modules": TiedModules,
    "twice": Twice,
    "packed LSTM": PackedLSTM,
    "LSTM": lambda: Recurrent(nn.LSTM, True),
    "GRU": lambda: Recurrent(nn.GRU, True),
    "time-major LSTM": lambda: Recurrent(nn.LSTM, False),
    "time-major transformer": TimeMajor,
    "patches": Patches,
    "positions": Positions,
    "own parameters": OwnParameters,
    "frozen": Frozen,
    "all frozen": AllFrozen,
    "custom function": Binary,
    "checkpoint": lambda: Checkpointed(False),
    "reentrant checkpoint": lambda: Checkpointed(True),
    "subclass of a linear layer": lambda: mlp(ScaledLinear(6, 8)),
    "subclass of a convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 6)), PartialConvolution(1, 4, 3), nn.Flatten(), nn.Linear(12, 3)
    ),
    "stored activation": StoredActivation,
    "keywords and two inputs": Squashed,
    "forward hook": lambda: hooked("forward"),
    "forward pre-hook": lambda: hooked("pre"),
    "hook of the whole": lambda: hooked("parent"),
    "backward hook": lambda: hooked("backward"),
    "pruned": lambda: pruned(removed=False),
    "pruned for good": lambda: pruned(removed=True),
    "spectral norm": lambda: mlp(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 8))),
    "weight norm": lambda: mlp(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))),
    "orthogonal": lambda: mlp(nn.utils.parametrizations.orthogonal(nn.Linear(6, 8))),
    "PReLU": lambda: nn.Sequential(nn.Linear(6, 8), nn.PReLU(), nn.PReLU(8), nn.Linear(8, CLASSES)),
    "RMS norm": lambda: nn.Sequential(nn.Linear(6, 8), nn.RMSNorm(8), nn.LayerNorm(8), nn.Linear(8, CLASSES)),
    "1-d convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3)),
}


def assert_right(actual: dict[str, Tensor], expected: Tensor, tolerance: float = 1e-11) -> None:
    scale = expected.abs().max().item() or 1.0
    torch.testing.assert_close(actual["total"], expected, rtol=0, atol=tolerance * scale)
    layers = [matrix for layer, matrix in actual.items() if layer != "total"]
    torch.testing.assert_close(torch.stack(layers).sum(0), actual["total"], rtol=0, atol=tolerance * scale)


@pytest.mark.filterwarnings("ignore:.*nested.*:UserWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_any_network(name: str) -> None:
    inputs, labels = example_inputs()
    expected = plain(built(NETWORKS[name]), inputs, labels)
    assert_right(gram(built(NETWORKS[name]), inputs, labels), expected)
    assert_right(gram(built(NETWORKS[name]), inputs, labels, chunk=6), expected)
    assert_right(gram(built(NETWORKS[name]), inputs, labels, fast=False), expected)
    assert_right(gram(built(NETWORKS[name]), inputs, labels, dtype=torch.float32), expected, 1e-4)
    assert_right({k: v.diag() for k, v in gram(built(NETWORKS[name]), inputs, labels, memory=600).items()}, expected.diag())
    torch.testing.assert_close(squared_norms(built(NETWORKS[name]), inputs, labels)["total"], expected.diag(), rtol=1e-9, atol=1e-12)
    few = (inputs[:5], labels[:5])
    block = gram(built(NETWORKS[name]), inputs[5:], labels[5:], columns=few, per_layer=False)["total"]
    torch.testing.assert_close(block, expected[5:, :5], rtol=0, atol=1e-11 * (expected.abs().max().item() or 1.0))


TOKENS: dict[str, Build] = {
    "embedding": lambda: nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(40, CLASSES)),
    "sparse embedding": lambda: nn.Sequential(nn.Embedding(9, 8, sparse=True, padding_idx=0), nn.Flatten(), nn.Linear(40, CLASSES)),
    "embedding bag": lambda: nn.Sequential(nn.EmbeddingBag(9, 8, mode="mean"), nn.Linear(8, CLASSES)),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_stay_whole_numbers(name: str) -> None:
    tokens, labels = torch.randint(9, (N, 5), generator=torch.Generator().manual_seed(0)), example_inputs()[1]
    expected = plain(built(TOKENS[name]), tokens, labels)
    assert_right(gram(built(TOKENS[name]), tokens, labels), expected)
    assert_right(gram(built(TOKENS[name]), tokens.numpy(), labels.numpy()), expected)


class Masked(nn.Module):
    """A dict of inputs and an output that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 8), nn.Linear(8, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        hidden = self.embed(ids) * mask[..., None]
        return {"logits": self.head(hidden.sum(1) / mask.sum(1, keepdim=True)), "hidden": hidden}


def test_dicts_tuples_and_streams() -> None:
    generator = torch.Generator().manual_seed(0)
    ids, mask, labels = torch.randint(9, (N, 5), generator=generator), torch.ones(N, 5), example_inputs()[1]
    mask[::2, 3:] = 0
    model = built(Masked)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = copy.deepcopy(model)

        def forward(self, both: Tensor) -> Tensor:
            return self.inner(both[:, 0].long(), both[:, 1])["logits"]

    expected = plain(Logits(), torch.stack([ids.float(), mask], 1), labels)
    assert_right(gram(model, {"ids": ids, "mask": mask}, labels), expected)
    assert_right(gram(model, (ids, mask), labels, loss=lambda out, y: F.cross_entropy(out["logits"], y, reduction="none")), expected)
    dataset = TensorDataset(ids, mask, labels)
    assert_right(gram(model, DataLoader(dataset, batch_size=5), memory=2000, chunk=4), expected)
    batches = [({"ids": ids[i : i + 4], "mask": mask[i : i + 4]}, labels[i : i + 4]) for i in range(0, N, 4)]
    assert_right(gram(model, batches), expected)
    block = gram(model, dataset, columns=TensorDataset(ids[:3], mask[:3], labels[:3]))["total"]
    torch.testing.assert_close(block, expected[:, :3], rtol=0, atol=1e-12)


def test_losses_by_name_and_module() -> None:
    inputs, labels = example_inputs()
    model = built(mlp)
    weights = torch.tensor([0.2, 1.0, 2.0])
    for loss, function in {
        "mse": lambda out, y: (out - y).square().mean(1),
        nn.CrossEntropyLoss(weight=weights): lambda out, y: F.cross_entropy(out, y, weights.double(), reduction="none"),
        nn.CrossEntropyLoss(weight=weights, reduction="none"): lambda out, y: F.cross_entropy(out, y, weights.double(), reduction="none"),
    }.items():
        targets = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1)) if loss == "mse" else labels
        assert_right(gram(model, inputs, targets, loss=loss), gram(model, inputs, targets, loss=function, fast=False)["total"])


def test_trainable_and_named_parameters() -> None:
    inputs, labels = example_inputs()
    model = built(mlp)
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    expected = plain(copy.deepcopy(model).requires_grad_(True), inputs, labels, ["2.weight"])
    trainable = gram(model, inputs, labels, parameters="trainable")
    assert list(trainable) == ["2", "total"]
    assert_right(trainable, expected)
    assert_right(gram(model, inputs, labels, parameters=["2.weight"]), expected)
    assert_right(gram(model, inputs, labels), plain(copy.deepcopy(model).requires_grad_(True), inputs, labels))
    biases = gram(model, inputs, labels, parameters=["0.bias", "2.bias"])
    assert_right(biases, plain(copy.deepcopy(model).requires_grad_(True), inputs, labels, ["0.bias", "2.bias"]))
    with pytest.raises(ReplicationError, match=r"no parameter 'head.weight'.*0.weight, 0.bias"):
        gram(model, inputs, labels, parameters=["head.weight"])
    with pytest.raises(ReplicationError, match="no such parameters"):
        gram(model.requires_grad_(False), inputs, labels, parameters="trainable")


def test_a_rare_use_of_a_layer_is_seen_in_a_large_set() -> None:
    generator = torch.Generator().manual_seed(5)
    inputs, labels = torch.randn(150, FEATURES, generator=generator), torch.randint(CLASSES, (150,), generator=generator)
    for build in (lambda: Experts(2.2), PaddedExperts, Sorted):
        assert_right(gram(built(build), inputs, labels), plain(built(build), inputs, labels))


class Float32State(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.head = nn.GRU(1, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x[..., None], torch.zeros(1, len(x), 5))[0][:, -1])


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, CLASSES, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.fft.rfft(x) @ self.weight).abs()


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + torch.randn_like(x))


class Normalised(nn.Module):
    """Examples interact without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.normalize(x, dim=0))


def test_what_has_no_gradient_of_single_examples_is_refused_in_one_sentence() -> None:
    inputs, labels = example_inputs()
    assert gram(built(Float32State), inputs, labels, dtype=torch.float32)["total"].shape == (N, N)
    for build, message in ((Float32State, "dtype=torch.float32"), (Noisy, "do not interact"), (Normalised, "do not interact")):
        for fast in (True, False):
            with pytest.raises(ReplicationError, match=message):
                gram(built(build), inputs, labels, fast=fast)
    with pytest.raises(ReplicationError, match="'weight' has type complex64"):
        gram(Complex().eval(), inputs, labels)


def test_the_way_taken_and_its_reason_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    inputs, labels = example_inputs()
    with caplog.at_level(logging.INFO, "replication.stiffness"):
        gram(built(mlp), inputs, labels)
        assert not caplog.messages
        gram(built(Sorted), inputs, labels)
    assert len([message for message in caplog.messages if "'encode'" in message]) == 1


def test_numpy_examples_and_wrappers() -> None:
    inputs, labels = example_inputs()
    expected = plain(built(mlp), inputs, labels)
    assert_right(gram(built(mlp), np.asarray(inputs), np.asarray(labels)), expected)
    assert_right(gram(nn.DataParallel(built(mlp)), inputs, labels), expected)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_zoo(name: str) -> None:
    member = zoo.build(name)
    theta = nn.utils.parameters_to_vector(member.model.double().parameters()).detach()
    gradients = torch.stack([zoo.plain_gradient(member, theta, slice(number, number + 1)) for number in range(zoo.N)])
    member = zoo.build(name)
    member.model.eval()
    arguments = {"loss": member.losses, "theta": theta}
    assert_right(gram(member.model, member.inputs, member.labels, **arguments), gradients @ gradients.T, 1e-10)
    assert_right(gram(member.model, member.inputs, member.labels, fast=False, **arguments), gradients @ gradients.T, 1e-10)


class Alias(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(FEATURES, 6), nn.Tanh(), nn.Linear(6, CLASSES))
        self.head = self.net[2]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net[1](self.net[0](x)))


def one_layer_twice() -> nn.Module:
    layer = nn.Linear(FEATURES, FEATURES)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.LayerNorm(FEATURES), nn.Linear(FEATURES, CLASSES))


def one_layer_three_times() -> nn.Module:
    return nn.Sequential(*[nn.Linear(FEATURES, FEATURES)] * 3, nn.Linear(FEATURES, CLASSES))


@pytest.mark.parametrize("build", [Alias, one_layer_twice, one_layer_three_times])
def test_modules_with_several_names_have_their_whole_gradient(build: Build) -> None:
    model, (inputs, labels) = built(build), example_inputs()
    torch.testing.assert_close(gram(model, inputs, labels)["total"], plain(copy.deepcopy(model), inputs, labels), rtol=1e-9, atol=1e-12)


def test_a_layer_of_the_name_of_the_sum_is_refused() -> None:
    model = nn.Sequential()
    model.add_module("total", nn.Linear(FEATURES, CLASSES))
    with pytest.raises(ReplicationError, match="rename it"):
        gram(model, *example_inputs())
    assert gram(model, *example_inputs(), per_layer=False)["total"].shape == (N, N)


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).transpose(0, 1)


def test_time_major_outputs_are_one_sentence() -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).sum(1)

    for length in (5, 7):
        with pytest.raises(ReplicationError):
            gram(TimeFirst(), torch.randn(6, length, 4), torch.zeros(6, length + 1, dtype=torch.int64), loss=loss)


def test_another_name_of_a_layer_is_told_the_first() -> None:
    layer = nn.Linear(4, 4)
    with pytest.raises(ReplicationError, match="Layer '1' is another name of layer '0'"):
        gram(nn.Sequential(layer, layer), torch.randn(5, 4), torch.arange(5) % 3, layers=["1"])


class EarlyExit(nn.Module):
    """Examples with a large first feature leave by another way, which uses the head's weight outside of the head's call."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(FEATURES, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden, leaving = torch.tanh(self.body(x)), x[:, 0] > 5
        outputs = self.head(hidden)
        if not leaving.any():
            return outputs
        exits = F.linear(2 * hidden, self.head.weight, self.head.bias)
        return torch.where(leaving[:, None], exits, outputs)


@pytest.mark.parametrize("arguments", [{}, {"chunk": 16}, {"memory": 60 * 8 * 40.0}])
def test_a_branch_for_a_few_examples_is_found_in_every_chunk(arguments: dict[str, Any]) -> None:
    model, generator = built(EarlyExit), torch.Generator().manual_seed(4)
    inputs, labels = torch.randn(120, FEATURES, generator=generator).clamp(-3, 3), torch.randint(CLASSES, (120,), generator=generator)
    for number, place in enumerate((31, 47, 77, 78)):
        inputs[place, :2] = torch.tensor([6.0 + number, -40.0 + number])  # no extreme example alone
    expected = plain(copy.deepcopy(model), inputs, labels)
    torch.testing.assert_close(gram(model, inputs, labels, **arguments)["total"], expected, rtol=1e-9, atol=1e-12)
    norms = squared_norms(model, inputs, labels)["total"]
    torch.testing.assert_close(norms, expected.diag(), rtol=1e-9, atol=1e-12)
