"""A small zoo: attention, tokens, dicts, recurrent and segmenting networks, streams and wrappers, each against plain autograd."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from autograd_oracle import IMAGES, TOKENS, X, Y, assert_equal, built, moved
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from replication.errors import ReplicationError
from replication.objective import Objective

MASK = torch.arange(6) < torch.randint(2, 7, (40, 1), generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """One block of a transformer with scaled dot product attention, over tokens or patches."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.norm, self.causal = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8), causal

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class Gpt(nn.Module):
    """Next tokens, with the head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place, self.block = nn.Embedding(9, 8), nn.Embedding(6, 8), Attention(causal=True)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.block(self.embed(ids) + self.place(torch.arange(ids.shape[1], device=ids.device))))


@dataclasses.dataclass
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...] = ()


class Bert(nn.Module):
    """Takes a dict by keyword and returns an object with ``logits``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8, padding_idx=0)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Output:
        hidden = self.encoder(self.embed(input_ids), src_key_padding_mask=~attention_mask.bool())
        return Output(self.head(hidden.mean(1)), (hidden,))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block, self.head = nn.Conv2d(4, 8, 3, stride=3), Attention(causal=False), nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.zeros(8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).mT
        return self.head((tokens + self.scale * self.block(tokens)).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(9, 5), nn.LSTM(5, 6, num_layers=2, batch_first=True), nn.Linear(6, 9)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0])


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru, self.head = nn.Embedding(9, 5), nn.GRU(5, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.gru(packed)[1][0])


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.up, self.out = nn.ConvTranspose2d(6, 6, 2, stride=2), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.down(x)
        return self.out(torch.cat([maps, self.up(F.max_pool2d(maps, 2))], 1))


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts, self.head = nn.ModuleList(nn.Linear(5, 8) for _ in "ab"), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = x.new_zeros(len(x), 8)
        for number, expert in enumerate(self.experts):
            members = ((x[:, 0] > 0) == bool(number)).nonzero()[:, 0]
            if len(members):
                out = out.index_put((members,), expert(x[members]))
        return self.head(torch.tanh(out))


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), x


def next_tokens(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(1)


def of_logits(outputs: Any, labels: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits, labels)


LABELS = Y[:40]
LENGTHS = MASK.sum(1)
MASKS = torch.randint(0, 3, (30, 6, 6), generator=torch.Generator().manual_seed(1))
ZOO: dict[str, tuple[Callable[[], nn.Module], Any, Any, Any, Any]] = {
    "gpt": (Gpt, TOKENS, TOKENS, next_tokens, lambda o, t: next_tokens(o, t).mean()),
    "bert": (Bert, {"input_ids": TOKENS, "attention_mask": MASK.long()}, LABELS, "cross_entropy", of_logits),
    "vit": (Vit, IMAGES, Y[:30], "cross_entropy", F.cross_entropy),
    "lstm": (Recurrent, TOKENS, TOKENS, next_tokens, lambda o, t: next_tokens(o, t).mean()),
    "packed gru": (Packed, (TOKENS, LENGTHS), LABELS, "cross_entropy", F.cross_entropy),
    "u-net": (UNet, IMAGES, MASKS, "cross_entropy", F.cross_entropy),
    "experts": (Experts, X, Y, "cross_entropy", F.cross_entropy),
    "several outputs": (Several, X, Y, "cross_entropy", lambda o, t: F.cross_entropy(o[0], t)),
    "several inputs": (lambda: nn.Bilinear(5, 5, 3), (X, X.flip(1)), Y, "cross_entropy", F.cross_entropy),
    "arrays": (lambda: nn.Linear(5, 3), X.numpy(), Y.numpy(), "cross_entropy", lambda o, t: F.cross_entropy(o, torch.as_tensor(t))),
}


@pytest.mark.parametrize("name", ZOO)
def test_each_member_equals_plain_autograd(name: str) -> None:
    build, inputs, labels, loss, mean = ZOO[name]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        objective = assert_equal(built(build).eval(), inputs, labels, loss=loss, mean=mean)
    objective.hessian_vector_product(objective.parameters(), objective.parameters())  # without the context


def test_an_operation_without_second_derivative_is_one_sentence() -> None:
    objective = Objective(built(lambda: nn.Sequential(nn.EmbeddingBag(9, 8), nn.Linear(8, 3))), TOKENS, LABELS, dtype=torch.float64)
    theta = objective.parameters()
    step = 1e-6 * torch.randn(len(theta), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    difference = objective.value(theta + step) - objective.value(theta - step)
    assert (objective.gradient(theta) @ step).item() * 2 == pytest.approx(difference, rel=1e-4)
    with pytest.raises(ReplicationError, match="no second derivative"):
        objective.hessian_vector_product(theta, theta)


def test_sparse_gradients_count_as_others() -> None:
    def build(sparse: bool) -> nn.Module:
        return nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(24, 3))

    first, second = (Objective(built(lambda sparse=sparse: build(sparse)), TOKENS, LABELS) for sparse in (True, False))
    torch.testing.assert_close(first.gradient(first.parameters()), second.gradient(second.parameters()))


@pytest.mark.parametrize("chunk", [None, 7, 16])
def test_streams_give_what_tensors_give(chunk: int | None) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)))
    memory = Objective(model, X, Y, dtype=torch.float64)
    theta = moved(model)

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return X[index], int(Y[index])

    for source in (
        Rows(),
        DataLoader(Rows(), batch_size=16, shuffle=True),
        DataLoader(TensorDataset(X, Y)),
        [(X[:25], Y[:25]), (X[25:], Y[25:])],
    ):
        stream = Objective(model, source, chunk=chunk, dtype=torch.float64)
        assert stream.n_examples == 60
        assert stream.value(theta) == pytest.approx(memory.value(theta), rel=1e-12)
        assert stream.evaluate(theta) == pytest.approx(memory.evaluate(theta), rel=1e-12)
        torch.testing.assert_close(stream.gradient(theta), memory.gradient(theta))
        torch.testing.assert_close(stream.gradient_by_class(theta), memory.gradient_by_class(theta))
        torch.testing.assert_close(stream.hessian_vector_product(theta, theta), memory.hessian_vector_product(theta, theta))
        members = torch.tensor([3, 50, 7])
        torch.testing.assert_close(stream.gradients_on(theta[None], members), memory.gradients_on(theta[None], members))


def test_a_data_set_that_augments_is_told() -> None:
    class Jittered(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return X[index] + torch.rand(5), int(Y[index])

    with pytest.raises(ReplicationError, match="Two readings of the same examples differ"):
        Objective(nn.Linear(5, 3), Jittered())


def test_wrapped_models_are_unwrapped() -> None:
    model = built(lambda: nn.Linear(5, 3))
    expected = Objective(model, X, Y).gradient(Objective(model, X, Y).parameters())
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        objective = Objective(wrapped, X, Y)  # type: ignore[arg-type]
        assert [slot.name for slot in objective.layout] == ["weight", "bias"]
        assert torch.equal(objective.gradient(objective.parameters()), expected)


def test_models_that_cannot_be_used_are_one_sentence() -> None:
    with pytest.raises(ReplicationError, match=r"give an nn\.Module"):
        Objective(lambda x: x, X, Y)  # type: ignore[arg-type]
    with pytest.raises(ReplicationError, match="pass one batch through the model first"):
        Objective(nn.LazyLinear(3), X, Y)
    with pytest.raises(ReplicationError, match="cannot run on 32 of the examples: RuntimeError"):
        Objective(nn.Linear(4, 3), X, Y)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU, "prelu": nn.PReLU, "softplus": nn.Softplus}
SIMPLE = ACTIVATIONS | {"dropout": nn.Dropout}
LAYERS = st.sampled_from(["linear", "no bias", "norm", "batch norm", "weight norm", "residual", *SIMPLE])


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x).tanh()


def network(layers: list[str], widths: list[int]) -> nn.Module:
    """A chain of the named layers from five features to three classes."""
    modules: list[nn.Module] = []
    width = 5
    for name, wanted in zip(layers, widths, strict=False):
        if name in ("linear", "no bias", "weight norm"):
            layer: nn.Module = nn.Linear(width, wanted, bias=name != "no bias")
            modules.append(nn.utils.parametrizations.weight_norm(layer) if name == "weight norm" else layer)
            width = wanted
        elif name == "batch norm":
            norm = nn.BatchNorm1d(width)
            norm(torch.randn(20, width) * 2 + 1)
            modules.append(norm)
        else:
            modules.append(Residual(width) if name == "residual" else nn.LayerNorm(width) if name == "norm" else SIMPLE[name]())
    return nn.Sequential(*modules, nn.Linear(width, 3)).eval()


@given(layers=st.lists(LAYERS, min_size=1, max_size=6), widths=st.lists(st.integers(2, 7), min_size=6, max_size=6))
def test_random_networks_equal_plain_autograd(layers: list[str], widths: list[int]) -> None:
    assert_equal(built(lambda: network(layers, widths)), X[:20], Y[:20])


CONVOLUTIONS = st.sampled_from(["conv", "strided", "pointwise", "grouped", "batch norm", "relu", "in place", "pool", "residual"])


@given(layers=st.lists(CONVOLUTIONS, min_size=1, max_size=6))
def test_random_convolutional_networks_equal_plain_autograd(layers: list[str]) -> None:
    def build() -> nn.Module:
        kinds: dict[str, Callable[[], nn.Module]] = {
            "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
            "strided": lambda: nn.Conv2d(4, 4, 1, stride=2, bias=False),
            "pointwise": lambda: nn.Conv2d(4, 4, 1),
            "grouped": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
            "batch norm": lambda: nn.BatchNorm2d(4),
            "relu": nn.ReLU,
            "in place": lambda: nn.ReLU(inplace=True),
            "pool": lambda: nn.AvgPool2d(3, 1, 1),
            "residual": lambda: ConvolutionalResidual(),
        }
        model = nn.Sequential(*(kinds[name]() for name in layers), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
        model(IMAGES)
        return model.eval()

    assert_equal(built(build), IMAGES[:10], Y[:10])


class ConvolutionalResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.bn(self.conv(x))).relu()
