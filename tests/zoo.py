"""Small networks of the kinds that people bring, each with examples and a loss, and plain autograd as the oracle.

``build(name)`` makes a fresh member of ``NAMES``; the same name gives the same weights and examples. Every network is called as its
users call it: one tensor, or keywords from a dict (``call``). Layers of random behaviour (dropout) are there and off in evaluation mode.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N = 24  # examples of every member
CLASSES, TOKENS, LENGTH = 3, 11, 6


@dataclass(frozen=True)
class Member:
    """A network with its examples.

    Attributes:
        inputs: a tensor, or a dict of tensors for the network's keywords; the first axis of each is the example.
        labels: whatever ``loss`` takes, the first axis is the example.
        loss: outputs and labels to one loss per example ``[n]``, or None for cross-entropy.
        layers: modules whose outputs are worth comparing, by name.
        features: output of such a layer to ``[n, n_features]``.
        batch_norm: whether there are running statistics.
    """

    name: str
    model: nn.Module
    inputs: Any
    labels: Tensor
    loss: Callable[[Any, Tensor], Tensor] | None
    layers: tuple[str, ...]
    features: Callable[[Tensor], Tensor] = lambda output: output.flatten(1)
    batch_norm: bool = False

    @property
    def objective_arguments(self) -> dict[str, Any]:
        """Keywords of ``Objective`` beyond model, inputs and labels."""
        return {} if self.loss is None else {"loss": self.loss}

    def losses(self, outputs: Any, labels: Tensor) -> Tensor:
        """One loss per example ``[n]``."""
        return F.cross_entropy(outputs, labels, reduction="none") if self.loss is None else self.loss(outputs, labels)

    def train(self, model: nn.Module, steps: int, *, after_step: Callable[[], None] = lambda: None, rate: float = 0.1) -> None:
        """Plain gradient descent in training mode on random halves of the examples."""
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        model.train()
        for _ in range(steps):
            batch = torch.randperm(N, generator=generator)[: N // 2]
            optimizer.zero_grad()
            self.losses(call(model, select(self.inputs, batch)), self.labels[batch]).mean().backward()
            optimizer.step()
            after_step()


def call(model: nn.Module, inputs: Any) -> Any:
    """The network's outputs: a dict of inputs becomes keywords, a tuple positions."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def select(inputs: Any, members: Tensor | slice) -> Any:
    """The inputs of some examples."""
    if isinstance(inputs, dict):
        return {name: tensor[members] for name, tensor in inputs.items()}
    return tuple(tensor[members] for tensor in inputs) if isinstance(inputs, tuple) else inputs[members]


def plain_losses(member: Member, theta: Tensor, members: Tensor | slice = slice(None)) -> tuple[Tensor, list[Tensor]]:
    """Losses of some examples ``[n]`` at ``theta`` in evaluation mode and float64, and the parameters they depend on.

    An untouched copy of the module with other weights and one forward pass: no tracing, no functional call, no chunks.
    """
    model = copy.deepcopy(member.model).double().eval()
    parameters = list(model.parameters())
    nn.utils.vector_to_parameters(theta.double(), parameters)
    inputs = select(member.inputs, members)
    doubled = {name: _double(tensor) for name, tensor in inputs.items()} if isinstance(inputs, dict) else _double(inputs)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return member.losses(call(model, doubled), _double(member.labels[members])), parameters


def plain_gradient(member: Member, theta: Tensor, members: Tensor | slice = slice(None)) -> Tensor:
    """The gradient of the mean loss at ``theta``, float64 ``[n_parameters]``, zeros where a parameter is not used."""
    losses, parameters = plain_losses(member, theta, members)
    gradients = torch.autograd.grad(losses.mean(), parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def plain_value(member: Member, theta: Tensor) -> float:
    """The mean loss at ``theta``."""
    return float(plain_losses(member, theta)[0].mean().detach())


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def build(name: str) -> Member:
    """A fresh member, with the same weights and examples at every call."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return _MAKERS[name]()


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width_in, width_out, 3, stride, 1, bias=False), nn.BatchNorm2d(width_out)
        self.conv2, self.bn2 = nn.Conv2d(width_out, width_out, 3, 1, 1, bias=False), nn.BatchNorm2d(width_out)
        self.shortcut = nn.Sequential(nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu(out)


def _residual_net() -> Member:
    model = nn.Sequential(ResidualBlock(1, 4, 1), ResidualBlock(4, 6, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES))
    images, labels = _images(8)
    model(3 * images + 1)  # running statistics that are not the initial ones
    return Member("residual_net", model, images, labels, None, ("0", "1", "4"), _channel_means, batch_norm=True)


class VisionTransformer(nn.Module):
    """Patches, a class token, learned positions and torch's own encoder layers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width) / 2)
        layer = nn.TransformerEncoderLayer(width, 2, 12, dropout=0.1, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], 1) + self.positions
        return self.head(self.norm(self.encoder(tokens))[:, 0])


def _vision_transformer() -> Member:
    layers = ("encoder.layers.0", "encoder.layers.1", "head")
    return Member("vision_transformer", VisionTransformer(), *_images(8), None, layers, _first_token)


class CausalBlock(nn.Module):
    """Attention to earlier tokens, then two dense layers, each added to its input."""

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.attend, self.project = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.dense = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        queries, keys, values = self.attend(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.dense(self.norm2(x))


class LanguageTransformer(nn.Module):
    """Decoder-only, whole-number inputs, the output weights tied to the embedding's."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(TOKENS, width), nn.Embedding(LENGTH, width)
        self.blocks = nn.ModuleList([CausalBlock(width), CausalBlock(width)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, TOKENS, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def next_token_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy of every sequence's next tokens ``[n]``."""
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none").mean(1)


def _language_transformer() -> Member:
    ids = torch.randint(TOKENS, (N, LENGTH))
    return Member("language_transformer", LanguageTransformer(), ids, ids, next_token_loss, ("blocks.0", "blocks.1", "norm"), _last_token)


@dataclass
class Classified:
    """What Hugging Face's models return: an object with the logits inside."""

    logits: Tensor


class MaskedTransformer(nn.Module):
    """Encoder with keyword inputs, a padding mask and an output object."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(TOKENS, width, padding_idx=0), nn.Parameter(torch.randn(LENGTH, width) / 2)
        self.attention, self.norm = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True), nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Classified:
        x = self.tokens(input_ids) + self.positions
        hidden = None if attention_mask is None else attention_mask == 0
        mixed, _ = self.attention(x, x, x, key_padding_mask=hidden, need_weights=False)
        return Classified(logits=self.classifier(self.norm(x + mixed)[:, 0]))


def _masked_transformer() -> Member:
    ids = torch.randint(1, TOKENS, (N, LENGTH))
    mask = (torch.arange(LENGTH) < torch.randint(3, LENGTH + 1, (N, 1))).long()
    inputs = {"input_ids": ids * mask, "attention_mask": mask}

    def loss(outputs: Classified, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs.logits, labels, reduction="none")

    return Member("masked_transformer", MaskedTransformer(), inputs, torch.randint(CLASSES, (N,)), loss, ("norm",), _first_token)


class LstmLanguageModel(nn.Module):
    """Two recurrent layers that predict the next token."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.head = nn.Embedding(TOKENS, 5), nn.LSTM(5, 7, num_layers=2, batch_first=True), nn.Linear(7, TOKENS)

    def forward(self, ids: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embed(ids))
        return self.head(hidden)


def _lstm_language_model() -> Member:
    ids = torch.randint(TOKENS, (N, LENGTH))
    return Member("lstm_language_model", LstmLanguageModel(), ids, ids, next_token_loss, ("embed", "head"), _last_token)


class UNet(nn.Module):
    """Down, up, a skip connection, batch norm, and one output per pixel."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.down1, self.down2, self.pool = self._block(1, width), self._block(width, 2 * width), nn.MaxPool2d(2)
        self.up, self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2), self._block(2 * width, width)
        self.out = nn.Conv2d(width, CLASSES, 1)

    @staticmethod
    def _block(width_in: int, width_out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        high = self.down1(x)
        low = self.down2(self.pool(high))
        return self.out(self.up1(torch.cat([high, self.up(low)], 1)))


def _unet() -> Member:
    model, images = UNet(), torch.randn(N, 1, 8, 8)
    model(2 * images + 1)

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        return F.cross_entropy(logits, masks, reduction="none").mean((1, 2))

    layers = ("down1", "down2", "up1")
    return Member("unet", model, images, torch.randint(CLASSES, (N, 8, 8)), loss, layers, _channel_means, batch_norm=True)


def _mlp_regression() -> Member:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))
    inputs = torch.randn(N, 4)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().squeeze(1)

    return Member("mlp_regression", model, inputs, inputs.sum(1, keepdim=True).sin(), loss, ("0", "2", "4"))


class MixtureOfExperts(nn.Module):
    """Every example is routed to the expert its gate likes best; control flow depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.gate(x).softmax(1).max(1)
        out = x.new_zeros(len(x), CLASSES)
        for number, expert in enumerate(self.experts):
            members = (chosen == number).nonzero().flatten()
            if len(members):
                out = out.index_add(0, members, weight[members, None] * expert(x[members]))
        return out


def _mixture_of_experts() -> Member:
    return Member("mixture_of_experts", MixtureOfExperts(), 2 * torch.randn(N, 4), torch.arange(N) % CLASSES, None, ("gate",))


class TiedAutoencoder(nn.Module):
    """The decoder reads the encoder's weights, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.bias = nn.Linear(6, 3), nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.encoder(x).tanh(), self.encoder.weight.t(), self.bias)


def _tied_autoencoder() -> Member:
    inputs = torch.randn(N, 6)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(1)

    return Member("tied_autoencoder", TiedAutoencoder(), inputs, inputs, loss, ("encoder",))


class PhysicsInformed(nn.Module):
    """The residual of u'' + u = f: derivatives by the inputs are taken within the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            place = x.detach().requires_grad_()
            u = self.net(place)
            (first,) = torch.autograd.grad(u.sum(), place, create_graph=True)
            (second,) = torch.autograd.grad(first.sum(), place, create_graph=True)
            return second + u


def _physics_informed() -> Member:
    places = torch.linspace(-1, 1, N)[:, None]

    def loss(residuals: Tensor, forces: Tensor) -> Tensor:
        return (residuals - forces).square().squeeze(1)

    return Member("physics_informed", PhysicsInformed(), places, places.cos() / 2, loss, ("net.0",))


def _images(size: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(N) % CLASSES
    return torch.randn(N, 1, size, size) + labels[:, None, None, None] / 2, labels


def _channel_means(output: Tensor) -> Tensor:
    return output.mean((2, 3)) if output.dim() == 4 else output


def _first_token(output: Tensor) -> Tensor:
    return output[:, 0] if output.dim() == 3 else output


def _last_token(output: Tensor) -> Tensor:
    return output[:, -1] if output.dim() == 3 else output


_MAKERS: dict[str, Callable[[], Member]] = {
    "residual_net": _residual_net,
    "vision_transformer": _vision_transformer,
    "language_transformer": _language_transformer,
    "masked_transformer": _masked_transformer,
    "lstm_language_model": _lstm_language_model,
    "unet": _unet,
    "mlp_regression": _mlp_regression,
    "mixture_of_experts": _mixture_of_experts,
    "tied_autoencoder": _tied_autoencoder,
    "physics_informed": _physics_informed,
}
NAMES = tuple(_MAKERS)
