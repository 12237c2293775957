"""Each network is the published one: counts, laws of initialisation, structure; and it can be used as the instruments need it."""

import functools
import hashlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import models_table
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from replication import models
from replication.errors import ReplicationError
from replication.models import counting
from replication.models.initialisation import he_fan_out_
from replication.models.parts import SamePad
from replication.objective import Objective, layout_of

# forward multiply-accumulates in millions, where they are known, and weights without biases and batch norm (docs/papers/landscape.md)
LANDSCAPE = {
    "vgg9": ("191.56", 2_785_472),
    "resnet20": ("40.81", 270_896),
    "resnet20_noshort": ("40.55", 268_336),
    "resnet56": ("125.75", 851_504),
    "resnet56_noshort": ("125.49", 848_944),
    "resnet110": ("253.15", 1_722_416),
    "resnet110_noshort": ("252.89", 1_719_856),
    "wide_resnet56_k1": ("125.75", 851_504),
    "wide_resnet56_k1_noshort": ("125.49", 848_944),
    "wide_resnet56_k2": ("502.1", 3_403_872),
    "wide_resnet56_k2_noshort": ("501.1", 3_393_632),
    "wide_resnet56_k4": ("2006.6", 13_611_200),  # printed 2006.7; 2006.649 here
    "wide_resnet56_k4_noshort": ("2002.5", 13_570_240),
    "wide_resnet56_k8": ("8023", 54_436_224),
    "wide_resnet56_k8_noshort": ("8006", 54_272_384),
    "densenet121": ("888.35", 6_872_768),
}
PUBLISHED = {name: count for name, (count, _) in models_table.PUBLISHED.items()}  # parameters
MULTIPLY_ACCUMULATES = {
    **{name: macs for name, (macs, _) in LANDSCAPE.items()},
    "mnist_fc": "0.0839",
    "lenet": "5.10",
    "allcnn": "281",
    "lca_resnet20": "40.8",
    "stiffness_cnn": "2.2",
}
BY_HAND = {  # kernels, then biases and batch norms
    "svcca_toy": (1 * 200 + 3 * 200 * 200 + 200 * 4 + 4 * 200 + 4, "0.121"),
    "svcca_convnet": (
        9 * (3 * 64 + 4 * 64 * 64) + 4096 * 512 + 512 * 256 + 256 * 10 + 5 * 64 + 512 + 256 + 10 + 2 * (2 * 64 + 512 + 256),
        "70",  # docs/papers/svcca.md
    ),
    "svcca_resnet32": (
        9 * (3 * 16 + 10 * 16**2 + 16 * 32 + 9 * 32**2 + 32 * 64 + 9 * 64**2) + 64 * 10 + 10 + 2 * (11 * 16 + 10 * 32 + 10 * 64),
        "68.863",  # pixels times kernels by stage: 1024 * 23_472 + 256 * 87_552 + 64 * 350_208 + 640
    ),
    "svcca_lstm": (
        4 * 200 * (28 + 5 * 200) + 3 * 8 * 200 + 200 * 28 + 28,  # input and recurrent weights of four gates, two biases each
        "16.454",  # 20 characters times the gates' weights, and the classifier once
    ),
    "pwcca_convnet": (
        9 * 64**2 * (1 + 2 + 4 + 4 + 8 + 16 + 16 + 32 + 64 + 64) + 9 * 3 * 64 + 512 * 10 + 10 + 2 * 64 * (2 + 3 * 2 + 3 * 4 + 3 * 8),
        "322.639",  # pixels times kernels by stage: 1024 * 38_592 + 256 * 368_640 + 64 * 1_474_560 + 16 * 5_898_240 + 5_120
    ),
}
HE_TRUNCATED = ["mnist_fc", "lenet", "allcnn", "lca_resnet20", "stiffness_resnet20"]
GLOROT = ["svcca_convnet", "pwcca_convnet", "stiffness_fc", "stiffness_cnn", "stiffness_fc_v1", "stiffness_cnn_v1"]
SMALL: dict[str, dict[str, Any]] = {  # reduced versions, one for each family and form
    "vgg9": {"width": 4, "image_size": 8, "stages": (1, 1, 1)},
    "resnet20": {"width": 4, "image_size": 8, "depth": 8},
    "resnet20_noshort": {"width": 4, "image_size": 8, "depth": 8},
    "wide_resnet56_k2": {"width": 2, "image_size": 8, "depth": 14},
    "densenet121": {"growth": 4, "image_size": 8, "blocks": (2, 2, 2, 2)},
    "mnist_fc": {"hidden": (7, 5), "image_size": 8},
    "lenet": {"width": 3, "hidden": 8, "image_size": 8},
    "allcnn": {"width": 4, "image_size": 8},
    "lca_resnet20": {"width": 4, "image_size": 8, "depth": 8},
    "svcca_toy": {"hidden": (9, 9)},
    "svcca_convnet": {"width": 4, "hidden": (16, 8), "image_size": 8},
    "svcca_resnet32": {"width": 4, "image_size": 8, "depth": 14},
    "svcca_lstm": {"units": 7, "layers": 2},
    "pwcca_convnet": {"width": 4, "image_size": 8},
    "stiffness_fc": {"hidden": (8, 8, 8), "image_size": 8},
    "stiffness_cnn": {"width": 4, "image_size": 8},
    "stiffness_fc_v1": {"hidden": (8,) * 6, "image_size": 8},
    "stiffness_cnn_v1": {"widths": (4, 4, 4), "image_size": 8},
    "stiffness_resnet20": {"width": 4, "image_size": 8, "depth": 8},
}
UNLIKE_THE_OTHERS = ("svcca_toy", "svcca_lstm")  # inputs of their own kind, PyTorch's own initialisation
HUGE = {"wide_resnet56_k8": {"width": 4}, "wide_resnet56_k8_noshort": {"width": 4}}
on_meta = functools.cache(counting.on_meta)


def build(name: str, seed: int = 0, **overrides: Any) -> nn.Module:
    entry = models.entry_of(name)
    return models.build(name, classes=entry.classes, channels=entry.image[0], seed=seed, **overrides)


def images_for(name: str, n: int, size: int | None = None) -> Tensor:
    channels, height, width = models.entry_of(name).image
    return torch.randn(n, channels, size or height, size or width, generator=torch.Generator().manual_seed(3))


def small(name: str, n: int = 6) -> tuple[nn.Module, Tensor]:
    """A reduced model in float64 and images for it."""
    overrides = SMALL[name]
    return build(name, **overrides).double(), images_for(name, n, overrides.get("image_size")).double()


def kernels(model: nn.Module, *types: type[nn.Module]) -> Iterator[Tensor]:
    return (module.weight.detach() for module in model.modules() if isinstance(module, types or (nn.Conv2d, nn.Linear)))


def standardised(weights: Iterator[Tensor], std: Callable[[Tensor], float]) -> Tensor:
    return torch.cat([weight.flatten() / std(weight) for weight in weights])


def fan_in(weight: Tensor) -> int:
    return weight[0].numel()


def fan_out(weight: Tensor) -> int:
    return weight[:, 0].numel()


# counts


@pytest.mark.parametrize("name", models.names())
def test_parameters_are_as_many_as_published_or_worked_out_by_hand(name: str) -> None:
    assert layout_of(on_meta(name))[-1].stop == (PUBLISHED[name] if name in PUBLISHED else BY_HAND[name][0])


@pytest.mark.parametrize(("name", "macs"), [*MULTIPLY_ACCUMULATES.items(), *((name, macs) for name, (_, macs) in BY_HAND.items())])
def test_multiply_accumulates_are_the_known_ones(name: str, macs: str) -> None:
    decimals = len(macs.partition(".")[2])
    assert f"{sum(counting.multiply_accumulates(on_meta(name), models.entry_of(name).image).values()) / 1e6:.{decimals}f}" == macs


@pytest.mark.parametrize("name", LANDSCAPE)
def test_landscape_weights_that_directions_move(name: str) -> None:
    assert sum(parameter.numel() for parameter in on_meta(name).parameters() if parameter.dim() > 1) == LANDSCAPE[name][1]


@pytest.mark.parametrize(
    ("name", "filters"),
    [("resnet20", 794), ("resnet20_noshort", 698), ("resnet56", 2138), ("resnet56_noshort", 2042), ("resnet110", 4154)],
)
def test_landscape_filters_are_the_known_ones(name: str, filters: int) -> None:
    assert sum(len(parameter) for parameter in on_meta(name).parameters() if parameter.dim() > 1) == filters


def test_the_stiffness_resnet_for_a_hundred_classes_has_the_known_count() -> None:
    with torch.device("meta"):
        model = models.build("stiffness_resnet20", classes=100, channels=3, seed=0)
    assert counting.n_parameters(model) == 277_540


def test_the_page_on_models_is_the_generated_one() -> None:
    assert models_table.PAGE.read_text(encoding="utf-8") == models_table.page(), "run python docs/models_table.py"


# the registry


def test_every_model_has_a_published_count_or_one_worked_out_by_hand() -> None:
    assert sorted(models.names()) == sorted([*PUBLISHED, *BY_HAND])


@pytest.mark.parametrize("name", models.names())
def test_overrides_are_keywords_of_the_model(name: str) -> None:
    function = getattr(__import__(models.module_of(name), fromlist=[name]), name)
    assert set(models_table.settings(name)) <= set(inspect.signature(function).parameters)
    assert on_meta(name).state_dict().keys() == counting.on_meta(name, **models_table.settings(name)).state_dict().keys()


def test_names_and_entries_do_not_need_torch() -> None:
    code = "import sys; from replication import models; [models.entry_of(n) for n in models.names()]; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_alone_decides_the_weights(name: str) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build(name, seed=7, **SMALL[name]).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = (build(name, seed=seed, **SMALL[name]).state_dict() for seed in (7, 8))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="the inverse error function rounds otherwise")
@pytest.mark.parametrize(
    ("name", "seed", "checksum"),
    [
        ("mnist_fc", 0, "ee19a0f6db68f604"),
        ("mnist_fc", 7, "f63c6132549c36bd"),
        ("lenet", 0, "8d65d6c29844a06e"),
        ("lenet", 7, "f880c1f8c39de3d0"),
    ],
)
def test_recorded_runs_start_from_these_weights(name: str, seed: int, checksum: str) -> None:
    weights = b"".join(parameter.detach().numpy().tobytes() for parameter in build(name, seed).parameters())
    assert hashlib.sha256(weights).hexdigest()[:16] == checksum


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("resnet", {}, r"There is no model 'resnet' \(did you mean 'resnet\w+'\?\); allowed: vgg9, resnet20, .*\."),
        (
            "resnet20",
            {"widht": 8},
            r"Model 'resnet20' has no setting 'widht' \(did you mean 'width'\?\); allowed: image_size, width, depth\.",
        ),
        ("resnet20", {"depth": 21}, r"A residual network of depth 21 cannot be built; choose 8, 14, 20, ... \(6 n \+ 2\)\."),
        ("svcca_resnet32", {"depth": 2}, "depth 2 cannot be built"),
        ("densenet121", {"image_size": 4}, "Images of 4 x 4 pixels are too small; this model halves them 3 times."),
        ("vgg9", {"image_size": 2}, "too small"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name: str, overrides: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ReplicationError, match=sentence) as caught:
        models.build(name, classes=10, channels=3, seed=0, **overrides)
    assert "\n" not in str(caught.value)


def test_the_module_of_an_unknown_model_is_the_same_sentence() -> None:
    with pytest.raises(ReplicationError, match="There is no model 'vgg99'"):
        models.module_of("vgg99")


# running


@pytest.mark.parametrize("name", models.names())
def test_each_network_goes_forward_and_backward(name: str) -> None:
    model, images = build(name, **HUGE.get(name, {})).train(), images_for(name, 2)
    outputs = model(images)
    assert outputs.shape == (2, models.entry_of(name).classes)
    outputs.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_a_reduced_version_is_of_the_same_class_and_smaller(name: str) -> None:
    model, images = small(name)
    assert type(model) is type(on_meta(name))
    assert model(images).shape == (len(images), models.entry_of(name).classes)
    assert counting.n_parameters(model) < 0.2 * counting.n_parameters(on_meta(name))


@pytest.mark.parametrize("name", [name for name in SMALL if name not in UNLIKE_THE_OTHERS])
@pytest.mark.parametrize("size", [28, 16])
def test_every_network_takes_other_images_and_classes(name: str, size: int) -> None:
    overrides = {**SMALL[name], "image_size": size}
    model = models.build(name, classes=7, channels=2, seed=0, **overrides)
    assert model(torch.randn(3, 2, size, size)).shape == (3, 7)


@pytest.mark.parametrize("name", SMALL)
def test_double_backward_gives_a_symmetric_hessian(name: str) -> None:
    model, images = small(name)
    model.train()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(model(images).square().mean(), parameters, create_graph=True)
    generator = torch.Generator().manual_seed(0)
    u, v = ([torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters] for _ in range(2))

    def product(left: list[Tensor], right: list[Tensor]) -> Tensor:
        total = torch.stack([(g * r).sum() for g, r in zip(gradients, right, strict=True)]).sum()
        rows = torch.autograd.grad(total, parameters, retain_graph=True, materialize_grads=True)
        return torch.stack([(a * b).sum() for a, b in zip(left, rows, strict=True)]).sum()

    torch.testing.assert_close(product(u, v), product(v, u), rtol=1e-8, atol=1e-8)
    assert product(u, v).abs() > 1e-6


@pytest.mark.parametrize("name", SMALL)
def test_functional_call_and_channels_last_change_nothing(name: str) -> None:
    model, images = small(name)
    model.eval()
    expected = model(images)
    torch.testing.assert_close(functional_call(model, dict(model.named_parameters()), (images,)), expected, rtol=0, atol=0)
    given = images.clone()
    last = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    assert torch.equal(images, given), "the input was written to"


@pytest.mark.parametrize("name", ["mnist_fc", "lenet", "svcca_toy", "stiffness_fc", "stiffness_cnn", "stiffness_resnet20"])
def test_networks_without_batch_norm_give_gradients_per_example(name: str) -> None:
    model, images = small(name)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    parameters = {key: value.detach() for key, value in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, parameters, (image[None],)).square().sum()

    together = vmap(grad(loss), (None, 0))(parameters, images)
    for index, image in enumerate(images):
        for key, gradient in grad(loss)(parameters, image).items():
            torch.testing.assert_close(together[key][index], gradient)


def test_an_lstm_reads_windows_of_any_length_in_order() -> None:
    model = models.build("svcca_lstm", classes=5, channels=1, seed=0, units=6, layers=3).eval()
    windows = torch.eye(5)[torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])][:, None]
    assert [name for name, _ in model.named_children()] == ["lstm1", "lstm2", "lstm3", "logits"]
    outputs = model(windows)
    assert outputs.shape == (2, 5)
    assert not torch.allclose(outputs[0], outputs[1])
    states = windows[:, 0]
    for layer in (model.lstm1, model.lstm2, model.lstm3):
        states = layer(states)[0]
    torch.testing.assert_close(model.logits(states[:, -1]), outputs)
    assert model(windows[:, :, :2]).shape == (2, 5)


# initialisation


@pytest.mark.parametrize("name", HE_TRUNCATED)
def test_kernels_of_lca_are_truncated_he_normal(name: str) -> None:
    """Realised standard deviation sqrt(2 / fan_in), cut at two standard deviations of the wider normal it is drawn from."""
    model = build(name)
    for weight in kernels(model):
        assert weight.std().item() == pytest.approx((2 / fan_in(weight)) ** 0.5, rel=5 / weight.numel() ** 0.5)
    pooled = standardised(kernels(model), lambda weight: (2 / fan_in(weight)) ** 0.5)
    assert 2.25 < pooled.abs().max() <= 2 / 0.8796 * 1.0001


@pytest.mark.parametrize("name", ["vgg9", "resnet20", "resnet56_noshort", "wide_resnet56_k2", "densenet121"])
def test_kernels_of_landscape_are_he_normal_and_its_classifiers_tiny(name: str) -> None:
    model = build(name)
    for weight in kernels(model, nn.Conv2d):
        assert weight.std().item() == pytest.approx((2 / fan_in(weight)) ** 0.5, rel=5 / weight.numel() ** 0.5)
    pooled = standardised(kernels(model, nn.Conv2d), lambda weight: (2 / fan_in(weight)) ** 0.5)
    assert pooled.abs().max() > 3.5, "not truncated"
    tiny = standardised(kernels(model, nn.Linear), lambda _: 1e-3)
    assert tiny.std().item() == pytest.approx(1, rel=5 / (2 * tiny.numel()) ** 0.5)


@pytest.mark.parametrize("name", GLOROT)
def test_kernels_of_keras_are_glorot_uniform(name: str) -> None:
    pooled = standardised(kernels(build(name)), lambda weight: (6 / (fan_in(weight) + fan_out(weight))) ** 0.5)
    assert 0.999 < pooled.abs().max() <= 1
    assert pooled.std().item() == pytest.approx(3**-0.5, rel=5 / pooled.numel() ** 0.5)


def test_kernels_of_the_svcca_resnet_are_he_normal_by_fan_out() -> None:
    model = build("svcca_resnet32")
    pooled = standardised(kernels(model, nn.Conv2d), lambda weight: (2 / fan_out(weight)) ** 0.5)
    assert pooled.std().item() == pytest.approx(1, rel=5 / pooled.numel() ** 0.5)
    assert pooled.abs().max() > 3.5
    assert all((weight.abs() <= (3 / 64) ** 0.5).all() for weight in kernels(model, nn.Linear))
    wide = nn.Conv2d(4, 400, 3)
    he_fan_out_(wide)
    assert wide.weight.std().item() == pytest.approx((2 / 3600) ** 0.5, rel=0.05)


@pytest.mark.parametrize("name", [name for name in SMALL if name not in UNLIKE_THE_OTHERS])
def test_biases_and_batch_norms_start_neutral(name: str) -> None:
    for key, module in build(name, **SMALL[name]).named_modules():
        if getattr(module, "bias", None) is not None:
            assert (module.bias == 0).all()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and key != "bn_fc1":
            assert (module.weight == 1).all()


def test_the_toy_net_keeps_pytorch_s_spread_of_biases() -> None:
    first = build("svcca_toy").fc1
    assert first.bias.std().item() == pytest.approx(3**-0.5, rel=0.2)
    kinks = -first.bias / first.weight[:, 0]
    assert (kinks.abs() < 1).sum() > 50


@pytest.mark.parametrize(("uniform_scale", "spread"), [(True, 12**-0.5), (False, 0.0)])
def test_the_dense_batch_norm_of_vgg_starts_as_in_2018_unless_told(uniform_scale: bool, spread: float) -> None:
    scale = build("vgg9", uniform_scale=uniform_scale).bn_fc1.weight.detach()
    assert scale.std().item() == pytest.approx(spread, abs=0.03)
    assert scale.min() >= 0
    assert scale.max() <= 1


# structure


def branches_off(model: nn.Module) -> nn.Module:
    """The second batch norm of every block gives zero, so that only shortcuts are left."""
    with torch.no_grad():
        for key, module in model.named_modules():
            if key.endswith(".bn2"):
                module.weight.zero_()
                module.bias.zero_()
    return model.eval()


def resnet_by_hand(model: nn.Module, images: Tensor, *, epsilon: float = 1e-5, same: bool = False) -> Tensor:
    """The forward pass on batch statistics from the weights alone; with ``same`` strided 3x3 kernels see zeros at the bottom and right."""
    weights = dict(model.named_parameters())

    def convolution(key: str, maps: Tensor, stride: int = 1) -> Tensor:
        weight, bias = weights[f"{key}.weight"], weights.get(f"{key}.bias")
        if weight.shape[-1] == 3:
            maps = F.pad(maps, (0, 1, 0, 1) if same and stride == 2 else (1, 1, 1, 1))
        return F.conv2d(maps, weight, bias, stride)

    def norm(key: str, maps: Tensor) -> Tensor:
        if f"{key}.weight" not in weights:
            return maps
        mean, variance = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), keepdim=True, correction=0)
        scale, shift = (weights[f"{key}.{part}"][:, None, None] for part in ("weight", "bias"))
        return (maps - mean) / (variance + epsilon).sqrt() * scale + shift

    maps = norm("bn", convolution("conv", images)).relu()
    for block in dict.fromkeys(key.rsplit(".conv1")[0] for key in weights if ".conv1" in key):
        stride = 2 if block in ("stage2.block1", "stage3.block1") else 1
        hidden = norm(f"{block}.bn1", convolution(f"{block}.conv1", maps, stride)).relu()
        hidden = norm(f"{block}.bn2", convolution(f"{block}.conv2", hidden))
        if f"{block}.shortcut.conv.weight" in weights:
            hidden = hidden + norm(f"{block}.shortcut.bn", convolution(f"{block}.shortcut.conv", maps, stride))
        elif f"{block}.shortcut.weight" in weights:
            hidden = hidden + convolution(f"{block}.shortcut", maps, stride)
        elif stride == 1 and model.stage1.block1.shortcut is not None:
            hidden = hidden + maps
        maps = hidden.relu()
    return maps.mean((2, 3)) @ weights["fc.weight"].T + weights["fc.bias"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("resnet20", {}),
        ("resnet20_noshort", {}),
        ("wide_resnet56_k2", {}),
        ("lca_resnet20", {"epsilon": 1e-3, "same": True}),
        ("stiffness_resnet20", {"same": True}),
    ],
)
def test_residual_networks_equal_their_formula(name: str, form: dict[str, Any]) -> None:
    overrides = {**SMALL[name], "depth": 14}
    model, images = build(name, **overrides).double().train(), images_for(name, 6, 8).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.1)
    torch.testing.assert_close(model(images), resnet_by_hand(model, images, **form))


@pytest.mark.parametrize("name", ["resnet20", "wide_resnet56_k2", "lca_resnet20"])
def test_without_its_branches_a_residual_network_still_sees_its_input(name: str) -> None:
    model, images = small(name)
    outputs = branches_off(model)(images)
    assert outputs.std(0).min() > 0


@pytest.mark.parametrize("name", ["resnet20_noshort", "resnet56_noshort", "wide_resnet56_k4_noshort"])
def test_without_its_branches_a_network_without_shortcuts_sees_nothing(name: str) -> None:
    outputs = branches_off(build(name, width=4, image_size=8, depth=8))(images_for(name, 6, 8))
    assert torch.equal(outputs, outputs[:1].expand_as(outputs))
    assert not any("shortcut" in key for key, _ in on_meta(name).named_parameters())


def test_an_identity_shortcut_adds_the_input_and_the_relu_follows() -> None:
    model = branches_off(build("resnet20", width=4, depth=14))
    maps = torch.randn(2, 4, 6, 6)
    assert torch.equal(model.stage1.block1(maps), maps.relu())
    assert model.stage2.block1.shortcut(maps).shape == (2, 8, 3, 3)


@pytest.mark.parametrize(
    ("name", "projections"),
    [
        ("resnet20", ["conv.weight", "bn.weight", "bn.bias"]),
        ("lca_resnet20", ["weight", "bias"]),
        ("stiffness_resnet20", ["weight", "bias"]),
    ],
)
def test_shortcuts_are_projections_where_the_shape_changes(name: str, projections: list[str]) -> None:
    found = [key for key, _ in on_meta(name).named_parameters() if ".shortcut." in key]
    assert found == [f"stage{stage}.block1.shortcut.{parameter}" for stage in (2, 3) for parameter in projections]
    for stage in (on_meta(name).stage2, on_meta(name).stage3):
        convolution = stage.block1.shortcut if isinstance(stage.block1.shortcut, nn.Conv2d) else stage.block1.shortcut.conv
        assert (convolution.kernel_size, convolution.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize(
    ("name", "epsilon"), [("resnet20", 1e-5), ("vgg9", 1e-5), ("densenet121", 1e-5), ("lca_resnet20", 1e-3), ("allcnn", 1e-3)]
)
def test_epsilon_of_batch_norm(name: str, epsilon: float) -> None:
    found = {module.eps for module in on_meta(name).modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    assert found == {epsilon}


def test_biases_before_batch_norm_have_no_gradient_in_lca_s_resnet() -> None:
    """688 of them at full size (docs/papers/lca.md); batch statistics take out whatever they add."""
    full = [
        module.bias.numel()
        for key, module in on_meta("lca_resnet20").named_modules()
        if key.rpartition(".")[2] in ("conv", "conv1", "conv2")
    ]
    assert sum(full) == 688
    model, images = small("lca_resnet20", 8)
    objective = Objective(model, images, torch.arange(8), batch_norm="batch", chunk=8, dtype=torch.float64)
    gradient = objective.gradient(objective.parameters())
    for slot in objective.layout:
        silent = slot.name.endswith(("conv.bias", "conv1.bias", "conv2.bias"))
        assert (gradient[slot.slice].abs().max() < 1e-12) == silent, slot.name


def test_strided_convolutions_of_allcnn_have_neither_batch_norm_nor_relu_after_them() -> None:
    keys = [key for key, _ in on_meta("allcnn").named_children()]
    assert [keys[keys.index(name) + 1] for name in ("conv3", "conv6", "conv9")] == ["dropout1", "dropout2", "mean"]
    assert [keys[keys.index(f"conv{number}") + 1] for number in (1, 2, 4, 5, 7, 8)] == [f"bn{number}" for number in (1, 2, 4, 5, 7, 8)]


@pytest.mark.parametrize("name", ["lenet", "allcnn"])
def test_dropout_is_off_unless_asked(name: str) -> None:
    """As released: the definition lists dropout, the code never switches it on (docs/papers/lca.md)."""
    images = images_for(name, 4, 8)
    plain, dropped = (build(name, **SMALL[name], dropout=dropout).train() for dropout in (False, True))
    assert torch.equal(plain(images), plain(images))
    assert not torch.equal(dropped(images), dropped(images))
    evaluated = (build(name, **SMALL[name], dropout=dropout).eval()(images) for dropout in (False, True))
    assert torch.equal(*evaluated)


def test_rows_of_svcca_figure_4_are_modules() -> None:
    keys = [key for key, _ in on_meta("svcca_convnet").named_children()]
    rows = [key for key in keys if not key.endswith("_relu") and key != "flatten"]
    assert rows == ["c1", "c2", "bn1", "p1", "c3", "c4", "c5", "bn2", "p2", "fc1", "bn3", "fc2", "bn4", "logits"]
    assert [keys[keys.index(bn) - 1] for bn in ("bn1", "bn2", "bn3", "bn4")] == ["c2_relu", "c5_relu", "fc1_relu", "fc2_relu"]
    blocks = [key for key, _ in on_meta("svcca_resnet32").named_modules() if key.rpartition(".")[2].startswith("block")]
    assert len(blocks) == 15
    seen: dict[str, Tensor] = {}
    model = build("svcca_convnet").eval()
    model.p2.register_forward_hook(lambda _module, _inputs, output: seen.update(p2=output))
    model(images_for("svcca_convnet", 1))
    assert seen["p2"].numel() == 4096


@pytest.mark.parametrize("place", ["stage1.block1", "stage1.block2", "stage2.block1"])
def test_a_block_of_the_svcca_resnet_equals_its_formula(place: str) -> None:
    block, maps = build("svcca_resnet32", width=4, depth=14).eval().get_submodule(place), torch.randn(2, 4, 6, 6)
    narrow = (1 + 1e-3) ** -0.5  # what batch norm multiplies with at running statistics 0 and 1
    active, strided = (maps * narrow).relu(), place == "stage2.block1"
    padded = F.pad(active, (0, 1, 0, 1) if strided else (1, 1, 1, 1))
    hidden = F.conv2d(padded, block.conv1.weight, stride=2 if strided else 1)
    branch = F.conv2d((hidden * narrow).relu(), block.conv2.weight, padding=1)
    shortcut = active if place == "stage1.block1" else maps
    if strided:
        empty = torch.zeros(2, 2, 3, 3)
        shortcut = torch.cat([empty, F.avg_pool2d(maps, 2), empty], 1)
    torch.testing.assert_close(block(maps), branch + shortcut)


def test_a_dense_layer_equals_its_formula_and_puts_its_new_channels_first() -> None:
    layer, maps = build("densenet121", growth=4, blocks=(1, 1)).block1.layer1.eval(), torch.randn(2, 8, 5, 5)
    hidden = F.conv2d((maps / (1 + 1e-5) ** 0.5).relu(), layer.conv1.weight)  # running statistics 0 and 1
    hidden = F.conv2d((hidden / (1 + 1e-5) ** 0.5).relu(), layer.conv2.weight, padding=1)
    torch.testing.assert_close(layer(maps), torch.cat([hidden, maps], 1))
    keys = [key for key, _ in on_meta("densenet121").named_children()]
    assert keys[1:3] == ["block1", "transition1"]
    assert keys[-5:] == ["block4", "bn", "relu", "mean", "fc"]
    assert [key for key, _ in on_meta("densenet121").transition1.named_children()] == ["bn", "relu", "conv", "pool"]


# padding


def convolved_by_hand(image: Tensor, kernel: Tensor, stride: int, before: int) -> Tensor:
    """TensorFlow's definition: ceil(size / stride) outputs, the window of output i starting at i * stride - before; zeros outside."""
    size, reach = image.shape[-1], kernel.shape[-1]
    side = -(-size // stride)
    output = torch.zeros(side, side, dtype=image.dtype)
    for row in range(side):
        for column in range(side):
            for i in range(reach):
                for j in range(reach):
                    y, x = row * stride - before + i, column * stride - before + j
                    if 0 <= y < size and 0 <= x < size:
                        output[row, column] += kernel[i, j] * image[y, x]
    return output


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before"), [(8, 3, 2, 0), (7, 3, 2, 1), (6, 3, 1, 1), (6, 1, 2, 0), (8, 5, 2, 1), (7, 3, 3, 1)]
)
def test_tensorflow_padding_equals_a_convolution_by_hand(size: int, kernel: int, stride: int, before: int) -> None:
    image, weight = torch.randn(size, size).double(), torch.randn(kernel, kernel).double()
    padded = SamePad(kernel, stride)(image[None, None])
    torch.testing.assert_close(F.conv2d(padded, weight[None, None], stride=stride)[0, 0], convolved_by_hand(image, weight, stride, before))


@pytest.mark.parametrize(
    ("name", "pad", "convolution", "before"),
    [
        ("lca_resnet20", "stage2.block1.pad", "stage2.block1.conv1", 0),
        ("stiffness_resnet20", "stage3.block1.pad", "stage3.block1.conv1", 0),
        ("svcca_resnet32", "stage2.block1.pad", "stage2.block1.conv1", 0),
        ("allcnn", "pad3", "conv3", 0),
        ("pwcca_convnet", "pad6", "conv6", 0),
        ("resnet20", "stage2.block1.pad", "stage2.block1.conv1", 1),  # PyTorch's own padding
    ],
)
def test_strided_convolutions_see_the_padding_of_their_paper(name: str, pad: str, convolution: str, before: int) -> None:
    model, _ = small(name)
    layer = model.get_submodule(convolution)
    image = torch.randn(8, 8, dtype=torch.float64)
    maps = torch.zeros(1, layer.in_channels, 8, 8, dtype=torch.float64)
    maps[0, 0] = image
    with torch.no_grad():
        output = layer(model.get_submodule(pad)(maps))[0, 0]
    torch.testing.assert_close(output, convolved_by_hand(image, layer.weight[0, 0].detach(), 2, before))
