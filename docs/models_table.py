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

`replication.models.build(name, classes=..., channels=..., seed=...)` builds each of these networks. (`python docs/models_table.py` writes
this page from the code.)

- *Layers* counts convolutions, linear layers, LSTM layers and batch norms.
- *Multiply-accumulates* are those of the forward pass of one image (for `svcca_lstm`, of one window of text), without the norms.
- *Published* is the number of parameters in the paper's own code, or in careful notes on it. The tests require exactly this number.
  Where it says "not published", they compare with a number that was computed by hand.
"""

_PWCCA = """
## PWCCA's widths

The paper varies the width of `pwcca_convnet` by a factor. Here `width` is 64 times that factor: the number of filters of the first
convolution. The last convolution has eight times as many.
"""

_SETTINGS = """
## Reduced versions

The keywords of `build` make a model narrower, shallower, or smaller in resolution. The table gives their published values. `channels` and
`classes` can be chosen for every model. A ResNet's depth must be 6 n + 2. A wide ResNet has k times `width` channels in its first stage.
"""

_NOTES = """
## Initialisation

Unless the table says otherwise, biases and the shifts of batch norm start at 0 and the scales of batch norm at 1. Kernels start as in
the papers' codes:

| models | kernels | source |
| --- | --- | --- |
| landscape | convolutions N(0, 2 / fan_in), linear layers N(0, 0.001²) | official training script |
| LCA | He normal as in TensorFlow: cut at two standard deviations, then rescaled to the standard deviation sqrt(2 / \
fan_in) | [card of the paper](papers/lca.md) |
| `stiffness_resnet20` | the same He normal | the Keras example of this network |
| other stiffness models | Glorot uniform: within sqrt(6 / (fan_in + fan_out)) | Keras' default; between-class \
stiffness before training depends on it |
| `svcca_convnet`, `pwcca_convnet` | Glorot uniform | not published; TensorFlow's default |
| `svcca_resnet32` | convolutions N(0, 2 / fan_out), linear layer uniform with variance 1 / fan_in | not published; \
TensorFlow's models repository of the time |
| `svcca_toy` | kernels and biases uniform within 1 / sqrt(fan_in); zero biases would put the kinks of all first-layer \
units at 0 | not published; PyTorch's default |
| `svcca_lstm` | all weights and biases uniform within 1 / sqrt(units) | not published; PyTorch's default |

One scale of batch norm is different. The official landscape script does not set the batch norm after VGG-9's dense layer, so its scale
starts uniform in [0, 1], PyTorch's default of 2018. `uniform_scale=False` starts it at 1, today's default.

## Batch norm

The training, not the model, decides which statistics batch norm uses. Landscape, SVCCA and PWCCA train on batch statistics and evaluate
with running statistics. LCA always uses batch statistics, of fixed chunks of examples; these chunks are part of the definition of its
loss. The stiffness models have no batch norm. Epsilon is 1e-5 in the landscape models. In the others it is 1e-3, as in TensorFlow.

## Where a paper is silent

These choices are ours:

- `svcca_convnet`: 3x3 kernels and 64 filters in all convolutions (the published 4096 values after the second pooling are 64 filters on
  8 x 8 pixels). ReLU follows each convolution and dense layer directly, so it comes before batch norm.
- `svcca_resnet32`: widths 16, 32 and 64. Shortcuts have no parameters, because the published rows show ten convolutions per stage and no
  projection.
- `svcca_lstm`: everything except the number of layers. The input is one-hot characters instead of words. Only the character after a window
  is predicted, so that a window is one example, like an image.
- `pwcca_convnet`: a mean over space and a linear classifier; convolutions without biases; ReLU after batch norm.
- `stiffness_cnn`, `stiffness_cnn_v1`: padded convolutions.
- Strided 3x3 convolutions of the LCA, SVCCA, PWCCA and stiffness models are padded as in TensorFlow, with zeros at the bottom and right
  only. PyTorch's `padding=1` would shift the image by a pixel.
- The definitions of `lenet` and `allcnn` contain dropout, but the released code never switches it on. `dropout=True` does.
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
