import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from conftest import small_batch_norm_net, small_mlp
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from replication import models
from replication.errors import ReplicationError
from replication.objective import Objective
from replication.objective.example_sets import examples_of
from replication.objective.losses import cross_entropy
from replication.stiffness.example_gradients import ExampleGradients
from replication.stiffness.gradient_gram import gram, squared_norms
from replication.stiffness.trial import Options, plan_of

Examples = tuple[Tensor, Tensor]


class Residual(nn.Module):
    """A parameter of its own, a shared layer, in-place ReLU, and a layer that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(16))
        self.first, self.twice, self.unused = nn.Linear(16, 6), nn.Linear(6, 6), nn.Linear(3, 3)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.first(images.flatten(1) + self.shift))
        return self.last(self.twice(self.relu(self.twice(hidden))) + hidden)


class Tied(nn.Module):
    """The same weight in two places, and a functional in-place operation on a layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode, self.last = nn.Linear(16, 5, bias=False), nn.Linear(5, 16), nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        code = torch.tanh(self.encode(images.flatten(1)))
        return self.last(F.relu_(self.decode(code)) + code @ self.encode.weight)


class Attention(nn.Module):
    """Parameters used past the modules that own them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm, self.last = nn.MultiheadAttention(4, 2, batch_first=True), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images[:, 0]
        return self.last(self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(1))


def convolutions() -> nn.Module:
    """Every kind of convolution: plain, strided, dilated, rectangular, one position, grouped, circular, transposed."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), nn.Tanh()),
        *(
            nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
            nn.Conv2d(4, 4, 3, padding="same"),
            nn.GroupNorm(2, 4),
            nn.ReLU(inplace=True),
        ),
        *(nn.ConvTranspose2d(4, 3, 2), nn.Tanh(), nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular")),
        *(nn.Conv2d(3, 12, (5, 3), bias=False), nn.Flatten(), nn.LazyLinear(3)),
    )


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = build()
        model(torch.randn(2, 1, 4, 4))
        return model.eval()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": small_mlp,
    "batch norm": lambda: small_batch_norm_net().eval(),
    "residual": lambda: seeded(Residual),
    "tied": lambda: seeded(Tied),
    "attention": lambda: seeded(Attention),
    "convolutions": lambda: seeded(convolutions),
}


def naive_gradients(model: nn.Module, examples: Examples, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Plain autograd in float64, one example at a time, by layer ``[n, n_parameters]``."""
    duplicate = copy.deepcopy(model).to(dtype)
    names = [name for name, _ in duplicate.named_parameters()]
    rows: dict[str, list[Tensor]] = {}
    for image, label in zip(examples[0].to(dtype), examples[1], strict=True):
        loss = F.cross_entropy(duplicate(image[None]), label[None])
        pieces = torch.autograd.grad(loss, list(duplicate.parameters()), materialize_grads=True)
        by_layer: dict[str, list[Tensor]] = {}
        for name, piece in zip(names, pieces, strict=True):
            by_layer.setdefault(name.rpartition(".")[0], []).append(piece.flatten())
        for layer, parts in by_layer.items():
            rows.setdefault(layer, []).append(torch.cat(parts))
    return {layer: torch.stack(parts) for layer, parts in rows.items()}


def naive(model: nn.Module, examples: Examples) -> dict[str, Tensor]:
    grams = {layer: g @ g.T for layer, g in naive_gradients(model, examples).items()}
    return grams | {"total": torch.stack(list(grams.values())).sum(0)}


def assert_grams(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    assert actual.keys() == expected.keys()
    for layer, matrix in actual.items():
        assert matrix.dtype == torch.float64
        scale = expected[layer].abs().max().item() or 1.0
        torch.testing.assert_close(matrix, expected[layer], rtol=0, atol=tolerance * scale, msg=layer)


@pytest.mark.parametrize("name", MODELS)
def test_gram_equals_the_naive_loop(name: str, examples: Examples) -> None:
    model, few = MODELS[name](), (examples[0][:9], examples[1][:9])
    assert_grams(gram(model, *few), naive(model, few))
    assert_grams(gram(model, *few, dtype=torch.float32), naive(model, few), tolerance=1e-4)
    assert_grams({k: v.diag() for k, v in gram(model, *few).items()}, squared_norms(model, *few, chunk=4))


@pytest.mark.parametrize(("name", "settings"), [
    ("stiffness_fc", {"image_size": 8, "hidden": (12, 10, 6)}),
    ("mnist_fc", {"image_size": 8}),
    ("stiffness_cnn", {"image_size": 8, "width": 4}),
    ("stiffness_resnet20", {"image_size": 8, "width": 4}),
    ("vgg9", {"image_size": 16, "width": 4}),
    ("densenet121", {"image_size": 16, "growth": 2, "blocks": (1, 1, 1, 1)}),
])  # fmt: skip
def test_gram_equals_torch_func_on_the_papers_networks(name: str, settings: dict[str, object], generator: torch.Generator) -> None:
    channels = 1 if "fc" in name else 3
    model = models.build(name, classes=5, channels=channels, seed=0, **settings).eval()
    side = int(str(settings["image_size"]))
    images, labels = torch.randn(4, channels, side, side, generator=generator), torch.arange(4)
    double = copy.deepcopy(model).double()
    parameters = {key: p.detach() for key, p in double.named_parameters()}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(double, weights, (image[None],)), label[None])

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images.double(), labels)
    matrix = torch.cat([gradients[key].flatten(1) for key in parameters], 1)
    actual = gram(model, images, labels, per_layer=False)
    assert_grams(actual, {"total": matrix @ matrix.T}, tolerance=1e-10)


def test_forms_are_the_cheapest_that_are_right(examples: Examples) -> None:
    def forms(name: str) -> list[str]:
        plan = plan_of(MODELS[name](), examples_of(*examples, None, torch.float64), None, Options())
        return [layer.form for layer in plan.layers.values()]

    assert forms("mlp") == ["factors"] * 3
    assert forms("batch norm") == ["affine", "local", "factors"]
    assert forms("convolutions") == ["affine", "local", "local", "local", "local", "local", "factors", "factors"]
    assert forms("residual") == ["vmap", "factors", "affine", "unused", "factors"]
    assert forms("tied")[0] == "vmap"
    assert forms("attention")[:2] == ["vmap", "vmap"]


@pytest.mark.parametrize("name", ["mlp", "batch norm", "convolutions", "tied"])
@pytest.mark.parametrize("settings", [{"chunk": 1}, {"chunk": 5}, {"memory": 1}, {"memory": 9000}, {"memory": 60_000, "chunk": 4}], ids=str)
def test_chunks_and_memory_change_nothing(name: str, settings: dict[str, int], examples: Examples) -> None:
    model, few = MODELS[name](), (examples[0][:7], examples[1][:7])
    assert_grams(gram(model, *few, **settings), gram(model, *few))
    more = (examples[0][20:25], examples[1][20:25])
    assert_grams(gram(model, *few, columns=more, **settings), gram(model, *few, columns=more))


def test_two_sets_are_a_block_of_their_union_and_order_follows(examples: Examples, generator: torch.Generator) -> None:
    model, few = small_batch_norm_net().eval(), tuple(tensor[:20] for tensor in examples)
    whole = gram(model, *few)
    block = gram(model, *(t[:13] for t in few), columns=tuple(t[13:] for t in few))
    assert_grams(block, {layer: matrix[:13, 13:] for layer, matrix in whole.items()})
    order = torch.randperm(20, generator=generator)
    assert_grams(gram(model, *(t[order] for t in few)), {layer: matrix[order][:, order] for layer, matrix in whole.items()})


def test_layers_total_and_symmetry(examples: Examples) -> None:
    whole = gram(small_mlp(), *examples)
    assert list(whole) == ["1", "3", "5", "total"]
    assert all(torch.equal(matrix, matrix.T) for matrix in whole.values())
    assert_grams(gram(small_mlp(), *examples, ["1", "5"]), {"1": whole["1"], "5": whole["5"], "total": whole["1"] + whole["5"]})
    assert_grams(gram(small_mlp(), *examples, per_layer=False), {"total": whole["total"]})


def test_mean_of_the_gram_is_the_squared_gradient_of_the_objective(examples: Examples, generator: torch.Generator) -> None:
    objective = Objective(small_mlp(), *examples, dtype=torch.float64)
    theta = objective.parameters() + 0.1 * torch.randn(objective.n_parameters, generator=generator, dtype=torch.float64)
    total = gram(small_mlp(), *examples, theta=theta)["total"]
    assert total.mean().item() == pytest.approx(objective.gradient(theta).square().sum().item(), rel=1e-12)


def test_first_order_identity_a_step_on_one_example_and_the_loss_of_another(examples: Examples) -> None:
    model, few = small_mlp(nn.Tanh), (examples[0][:6], examples[1][:6])
    expected, errors = gram(model, *few)["total"], []
    objectives = [Objective(model, few[0][i : i + 1], few[1][i : i + 1], dtype=torch.float64) for i in range(6)]
    theta = objectives[0].parameters()
    for step in (1e-3, 1e-4, 1e-5):
        moved = [theta - step * objective.gradient(theta) for objective in objectives]
        falls = torch.tensor([[(o.value(theta) - o.value(m)) / step for o in objectives] for m in moved], dtype=torch.float64)
        errors.append((falls - expected).abs().max().item() / expected.abs().max().item())
    assert errors[1] / errors[0] == pytest.approx(0.1, rel=0.05)
    assert errors[2] / errors[1] == pytest.approx(0.1, rel=0.05)
    assert errors[2] < 1e-4


def test_loss_in_float64_keeps_saturated_examples() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[10.0, 0.0], [-10.0, 0.0]]))
    norms = squared_norms(model, torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([0]), dtype=torch.float32)["total"]
    probability = torch.exp(torch.tensor(-20.0, dtype=torch.float64))  # of the wrong class, lost beside 1 in float32
    assert norms.item() == pytest.approx(2 * probability.item() ** 2, rel=1e-5)


def test_other_losses(examples: Examples) -> None:
    labels = torch.randn(60, 3)
    actual = gram(small_mlp(), examples[0], labels, loss=lambda outputs, targets: (outputs - targets).square().sum(1))["total"]
    objective = Objective(small_mlp(), examples[0], labels, loss=lambda o, t: (o - t).square().sum(1), dtype=torch.float64)
    assert actual.mean().item() == pytest.approx(objective.gradient(objective.parameters()).square().sum().item(), rel=1e-12)


@pytest.mark.parametrize("name", ["mlp", "batch norm"])
def test_non_finite_gradients_stay_non_finite(name: str, examples: Examples) -> None:
    model, images = MODELS[name](), examples[0][:8].clone()
    images[5] = torch.nan
    total = gram(model, images, examples[1][:8])["total"]
    assert not total[5].isfinite().any()
    keep = [i for i in range(8) if i != 5]
    assert_grams({"total": total[keep][:, keep]}, {"total": gram(model, images[keep], examples[1][keep])["total"]})
    images[:] = torch.nan
    assert not gram(model, images, examples[1][:8])["total"].isfinite().any()


def test_the_model_is_given_back_unchanged_also_after_an_exception(examples: Examples) -> None:
    model = small_batch_norm_net().eval()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    gram(model, examples[0][:4], examples[1][:4])
    with pytest.raises(ReplicationError, match="ZeroDivisionError"):
        gram(model, examples[0][:4], examples[1][:4], loss=lambda outputs, labels: outputs.sum(1) * (1 // 0))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model[0].weight.requires_grad
    assert not model.training
    assert all(not module._forward_hooks and p.grad is None for module in model.modules() for p in module.parameters())


class Centred(nn.Module):
    """Examples interact although nothing says so."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(images.flatten(1) - images.flatten(1).mean(0))


@pytest.mark.parametrize(("build", "message"), [
    (lambda: small_batch_norm_net().train(), "BatchNorm2d.*model.eval"),
    (lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).train(), "Dropout.*model.eval"),
    (lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, 3)).eval(), "running statistics"),
    (Centred, "do not interact"),
])  # fmt: skip
def test_examples_that_interact_are_refused(build: Callable[[], nn.Module], message: str, examples: Examples) -> None:
    with pytest.raises(ReplicationError, match=message):
        gram(build(), *examples)


def test_mistakes_are_one_sentence(examples: Examples) -> None:
    model, (images, labels) = small_mlp(), examples
    for call, message in [
        (lambda: gram(model, images, labels[:5]), "60 inputs and 5 labels"),
        (lambda: gram(model, images[:0], labels[:0]), "0 inputs"),
        (lambda: gram(model, images, labels, columns=(images[:3], labels[:2])), "3 inputs and 2 labels"),
        (lambda: gram(model, images, labels, ["fc1"]), "no layer 'fc1'.*allowed: 1, 3, 5"),
        (lambda: gram(model, images, labels, theta=torch.zeros(7)), r"shape \(7,\)"),
        (lambda: gram(model, images, labels, dtype=torch.float16), "float16"),
        (lambda: gram(model, images, labels, chunk=0), "chunk is 0"),
        (lambda: gram(model, images, labels, memory=-1), "memory is -1"),
        (lambda: gram(model, images, labels, loss=lambda outputs, _: outputs.sum()), "one per example"),
    ]:
        with pytest.raises(ReplicationError, match=message) as caught:
            call()
        assert str(caught.value).endswith(".")


def test_kernels_in_channels_last_and_images_on_permuted_views(examples: Examples) -> None:
    model, few = small_batch_norm_net().eval(), (examples[0][:6], examples[1][:6])
    expected = gram(model, *few)
    permuted = few[0].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert_grams(gram(model.to(memory_format=torch.channels_last), permuted, few[1]), expected)


def test_layers_in_the_order_of_the_model() -> None:
    source = ExampleGradients(small_mlp(), theta=None, loss=cross_entropy, dtype=torch.float64, device=torch.device("cpu"))
    assert [layer.name for layer in source.layers(["5", "1"])] == ["1", "5"]
