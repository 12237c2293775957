"""The page on the models, docs/models.md, counted from the code: ``python docs/models_table.py`` writes it."""

import importlib
import inspect
from collections import Counter
from pathlib import Path
from typing import Any

from torch import nn

from replication import models
from replication.models.counting import multiply_accumulates, n_parameters, on_meta

PAGE = Path(__file__).with_name("models.md")
PWCCA_WIDTHS = tuple(int(64 * factor) for factor in (0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 3, 4, 5, 6, 7))

_CLASSES, _LAYERS = "confirmed: official classes counted", "layers confirmed, count ours"
PUBLISHED: dict[str, tuple[int, str]] = {
    "vgg9": (2_789_706, _CLASSES),
    "resnet20": (272_474, _CLASSES),
    "resnet20_noshort": (269_722, _CLASSES),
    "resnet56": (855_770, _CLASSES),
    "resnet56_noshort": (853_018, _CLASSES),
    "resnet110": (1_730_714, _CLASSES),
    "resnet110_noshort": (1_727_962, _CLASSES),
    "wide_resnet56_k1": (855_770, _CLASSES),
    "wide_resnet56_k1_noshort": (853_018, _CLASSES),
    "wide_resnet56_k2": (3_412_394, _CLASSES),
    "wide_resnet56_k2_noshort": (3_401_770, _CLASSES),
    "wide_resnet56_k4": (13_628_234, _CLASSES),
    "wide_resnet56_k4_noshort": (13_586_506, _CLASSES),
    "wide_resnet56_k8": (54_470_282, _CLASSES),
    "wide_resnet56_k8_noshort": (54_304_906, _CLASSES),
    "densenet121": (6_956_298, _CLASSES),
    "mnist_fc": (84_060, _LAYERS),
    "lenet": (808_970, _LAYERS),
    "allcnn": (1_371_658, _LAYERS),
    "lca_resnet20": (273_066, _LAYERS),
    "stiffness_fc": (573_910, "secondary"),
    "stiffness_cnn": (19_466, "secondary, padding ours"),
    "stiffness_fc_v1": (557_010, "layers confirmed, count ours"),
    "stiffness_cnn_v1": (398_666, "layers confirmed, padding and count ours"),
    "stiffness_resnet20": (271_690, "secondary, count ours"),
}

_HEAD = """# Models

Written by `python docs/models_table.py` from the code: change that, not this page. `replication.models.build(name, classes=...,
channels=..., seed=...)` builds a model.

*Layers* counts convolutions, linear layers, LSTM layers and batch norms; *multiply-accumulates* are those of all but the norms, in
millions, for the forward pass of one image (one window of text for `svcca_lstm`). *Published* is the parameter count of the papers' own
code or of careful notes on it, which the tests demand exactly; where it says "not published" the tests hold the count to one worked out
by hand.
"""

_PWCCA = """
## PWCCA's widths

`pwcca_convnet` with `width` 64 times the factors of the paper; `width` counts the filters of the first convolution, the last has eight
times as many.
"""

_SETTINGS = """
## Reduced versions

Narrower, shallower and lower-resolution versions are the same models with other keywords of `build`, here with their published values.
`channels` and `classes` are free as well. ResNet depths are 6 n + 2; a wide ResNet has k times `width` channels in its first stage.
"""

_NOTES = """
## Initialisation

Biases start at 0, batch norm at scale 1 and shift 0, and kernels as the papers' codes draw them. PyTorch's default, kernels and biases
uniform within 1 / sqrt(fan_in), is used for `svcca_toy` and `svcca_lstm` only.

- Landscape: convolutions N(0, 2 / fan_in), linear layers N(0, 0.001²), set so by the official training script. It leaves out VGG-9's dense
  batch norm, whose scale therefore starts uniform in [0, 1], the default of 2018; `uniform_scale=False` starts it at 1 as today.
- LCA: TensorFlow's He initialisation: a normal cut at two standard deviations and rescaled to the standard deviation sqrt(2 / fan_in).
- `stiffness_resnet20`: the same, as in the Keras example it is taken from.
- `stiffness_fc`, `stiffness_cnn`, `stiffness_fc_v1`, `stiffness_cnn_v1`: uniform within sqrt(6 / (fan_in + fan_out)), Keras'
  default; between-class stiffness at the start depends on it.
- `svcca_convnet`, `pwcca_convnet`: the same, TensorFlow's default; not published.
- `svcca_resnet32`: convolutions N(0, 2 / fan_out), linear layer uniform with variance 1 / fan_in, as in TensorFlow's models repository
  of the time; not published.
- `svcca_toy`: PyTorch's default; not published. Zero biases would put the kinks of all first-layer units at 0.
- `svcca_lstm`: PyTorch's default, all weights and biases uniform within 1 / sqrt(units); not published.

## Batch norm

A model does not decide which statistics it uses. Landscape, SVCCA and PWCCA train on batch statistics and evaluate with the running ones.
LCA uses batch statistics everywhere, of fixed chunks of examples that belong to the definition of its loss. The stiffness models have no
batch norm. Epsilon is 1e-5 in the landscape models and TensorFlow's 1e-3 in the others.

## Where a paper is silent

- `svcca_convnet`: 3x3 kernels and 64 filters throughout (the published 4096 values after the second pooling are 64 filters on 8 x 8
  pixels), ReLU at once after each convolution and dense layer, hence before batch norm.
- `svcca_resnet32`: widths 16, 32, 64; shortcuts without parameters, since the published rows hold ten convolutions per stage and no
  projection.
- `svcca_lstm`: everything but the number of layers; one-hot characters in place of words, and only the character after a window is
  predicted, so that a window is an example like an image.
- `pwcca_convnet`: mean over space and a linear classifier; convolutions without biases; ReLU after batch norm.
- `stiffness_cnn`, `stiffness_cnn_v1`: padded convolutions.
- Strided 3x3 convolutions of the LCA, SVCCA, PWCCA and stiffness models have TensorFlow's padding: zeros at the bottom and right only,
  where PyTorch's `padding=1` would shift the image by a pixel.
- Dropout is in the definitions of `lenet` and `allcnn`, but the released code never switches it on; `dropout=True` does.
"""


def layers(model: nn.Module) -> str:
    """How many convolutions, LSTM and linear layers and batch norms, in words."""
    words = {nn.Conv2d: "conv", nn.LSTM: "LSTM", nn.Linear: "linear", nn.BatchNorm2d: "norm", nn.BatchNorm1d: "norm"}
    counts = Counter(words[type(module)] for module in model.modules() if type(module) in words)
    return ", ".join(f"{counts[word]} {word}" for word in ("conv", "LSTM", "linear", "norm") if counts[word])


def settings(name: str) -> dict[str, Any]:
    """The keywords for reduced versions of a model, with their published values."""
    function = getattr(importlib.import_module(models.module_of(name)), name)
    parameters = inspect.signature(function).parameters
    return {key: parameters[key].default for key in models.entry_of(name).overrides}


def page() -> str:
    """The text of docs/models.md."""
    main = [_row(name) for name in models.names()]
    head = ["name", "paper", "input", "layers", "parameters", "multiply-accumulates (millions)", "published", "how well known"]
    widths = [[str(width), f"{width / 64:g}", *_counts("pwcca_convnet", width=width)] for width in PWCCA_WIDTHS]
    groups: dict[str, list[str]] = {}
    for name in models.names():
        groups.setdefault(", ".join(f"`{key}={value}`" for key, value in settings(name).items()), []).append(f"`{name}`")
    reduced = [[", ".join(group), text] for text, group in groups.items()]
    return "\n".join(
        [
            *(_HEAD, _table(head, main)),
            *(_PWCCA, _table(["width", "factor", "parameters", "multiply-accumulates (millions)"], widths)),
            *(_SETTINGS, _table(["models", "keywords"], reduced)),
            _NOTES,
        ]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _row(name: str) -> list[str]:
    entry = models.entry_of(name)
    count, trust = PUBLISHED.get(name, ("not published", ""))
    published = f"{count:,}" if isinstance(count, int) else count
    image = " x ".join(str(size) for size in entry.image)
    return [f"`{name}`", entry.paper, image, layers(on_meta(name)), *_counts(name), published, trust]


def _counts(name: str, **overrides: Any) -> list[str]:
    model = on_meta(name, **overrides)
    return [f"{n_parameters(model):,}", f"{sum(multiply_accumulates(model, models.entry_of(name).image).values()) / 1e6:,.3f}"]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
