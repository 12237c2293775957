"""The rows of SVCCA's figure 4: the outputs of its two networks that the paper compares, under the names it gives them."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from replication.activations.outputs import layer_outputs
from replication.errors import ReplicationError
from replication.svcca.views import folded, spatial_mean

View = Callable[[Tensor], Tensor]
IN, LOGITS, OUT = "in", "logits", "out"
MAPS = ("c1", "c2", "bn1", "p1", "c3", "c4", "c5", "bn2", "p2")  # of the convnet
_CONVNET = (*MAPS, "fc1", "bn3", "fc2", "bn4", LOGITS)


def rows_of(model: nn.Module) -> dict[str, str]:
    """Module by row, from input to output: the convnet's by name, the ResNet's as b<i>_cv1, b<i>_cv2 and (after the addition) b<i>_res.

    A convolution or dense layer with a ReLU of its own is read after it.

    Raises:
        ReplicationError: the model is neither of the two.
    """
    modules = dict(model.named_modules())
    if "p2" in modules:
        return {row: f"{row}_relu" if f"{row}_relu" in modules else row for row in _CONVNET}
    if "stage1.block1" not in modules:
        raise ReplicationError("The model has no rows of figure 4; allowed: svcca_convnet and svcca_resnet32.")
    blocks = [name for name in modules if re.fullmatch(r"stage\d+\.block\d+", name)]
    parts = (("cv1", ".conv1"), ("cv2", ".conv2"), ("res", ""))
    inside = {f"b{i}_{row}": f"{block}{tail}" for i, block in enumerate(blocks, start=1) for row, tail in parts}
    return {"conv": "conv", **inside, "bn": "bn", LOGITS: LOGITS}


def neurons(output: Tensor) -> Tensor:
    """Means over space of a feature map; anything else as it is."""
    return spatial_mean(output) if output.dim() == 4 else output


def positions(output: Tensor) -> Tensor:
    """Positions of a feature map as examples; anything else as it is."""
    return folded(output) if output.dim() == 4 else output


def row_outputs(model: nn.Module, images: Tensor, *, rows: Sequence[str] | None = None, view: View | None = neurons) -> dict[str, Tensor]:
    """Outputs of the rows (all by default, with the input and the softmax) on ``images``, as ``layer_outputs`` gives them.

    Args:
        rows: which ones, as in ``rows_of``.
        view: applied to each output; None keeps feature maps.
    """
    known = rows_of(model)
    asked = list(known) if rows is None else list(rows)
    by_module = layer_outputs(model, images, [known[row] for row in asked], view=view)
    outputs = {row: by_module[known[row]] for row in asked}
    if rows is None:
        outputs = {IN: images if view is None else view(images), **outputs, OUT: torch.softmax(outputs[LOGITS], 1)}
    return outputs
