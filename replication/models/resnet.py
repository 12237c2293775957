"""Post-activation residual networks for CIFAR: landscape's (also without shortcuts and wide), LCA's and stiffness'.

All have a 3x3 convolution and three stages of (depth - 2) / 6 blocks with 1, 2 and 4 times as many channels, the later stages
starting with stride 2, then the mean over space and a classifier. What the papers' codes do differently is a ``Form``.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from replication.models.initialisation import he_normal_, he_truncated_
from replication.models.parts import SamePad, SpatialMean, blocks_per_stage, halved, numbered


@dataclass(frozen=True)
class Form:
    """What differs between the papers' residual networks.

    Attributes:
        initialise: sets all weights.
        biases: whether convolutions have them, also before batch norm.
        epsilon: of batch norm; None for a network without batch norm.
        projection_norm: whether the 1x1 convolutions of the shortcuts have batch norm.
        same_padding: TensorFlow's padding of the strided convolutions instead of one pixel all round.
    """

    initialise: Callable[[nn.Module], None]
    biases: bool
    epsilon: float | None
    projection_norm: bool
    same_padding: bool

    def convolution(self, width_in: int, width: int, kernel: int, stride: int = 1) -> nn.Conv2d:
        """Without padding where ``pad`` does it."""
        padding = 0 if self.same_padding and stride > 1 else kernel // 2
        return nn.Conv2d(width_in, width, kernel, stride, padding, bias=self.biases)

    def pad(self, stride: int) -> nn.Module:
        """What comes before a 3x3 convolution."""
        return SamePad(3, stride) if self.same_padding and stride > 1 else nn.Identity()

    def norm(self, width: int) -> nn.Module:
        """Batch norm, or nothing."""
        return nn.Identity() if self.epsilon is None else nn.BatchNorm2d(width, eps=self.epsilon)

    def projection(self, width_in: int, width: int, stride: int) -> nn.Module:
        """The shortcut where the shape changes."""
        convolution = self.convolution(width_in, width, 1, stride)
        return nn.Sequential(OrderedDict(conv=convolution, bn=self.norm(width))) if self.projection_norm else convolution


LANDSCAPE = Form(he_normal_, biases=False, epsilon=1e-5, projection_norm=True, same_padding=False)
LCA = Form(he_truncated_, biases=True, epsilon=1e-3, projection_norm=False, same_padding=True)
STIFFNESS = Form(he_truncated_, biases=True, epsilon=None, projection_norm=False, same_padding=True)


class BasicBlock(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm, plus the shortcut if there is one, ReLU."""

    def __init__(self, width_in: int, width: int, stride: int, *, form: Form, shortcut: bool) -> None:
        super().__init__()
        self.pad = form.pad(stride)
        self.conv1 = form.convolution(width_in, width, 3, stride)
        self.bn1 = form.norm(width)
        self.conv2 = form.convolution(width, width, 3)
        self.bn2 = form.norm(width)
        changes = stride != 1 or width_in != width
        self.shortcut = (form.projection(width_in, width, stride) if changes else nn.Identity()) if shortcut else None

    def forward(self, maps: Tensor) -> Tensor:
        """``[n, width, height / stride, width / stride]``."""
        hidden = self.bn1(self.conv1(self.pad(maps))).relu()
        hidden = self.bn2(self.conv2(hidden))
        if self.shortcut is not None:
            hidden = hidden + self.shortcut(maps)
        return hidden.relu()


class ResNet(nn.Sequential):
    """Residual network of ``depth`` weight layers, input ``[n, channels, 32, 32]``.

    Landscape's (docs/papers/landscape.md): shortcuts are the identity or, where the shape changes, a 1x1 convolution
    with batch norm; no convolution has a bias. Parameters with and without shortcuts: depth 20 272,474 and 269,722, depth 56
    855,770 and 853,018, depth 110 1,730,714 and 1,727,962; depth 56 widened by 2 3,412,394 and 3,401,770, by 4 13,628,234 and
    13,586,506, by 8 54,470,282 and 54,304,906. Trained on batch statistics, plotted with the running ones.

    LCA's (docs/papers/lca.md): every convolution has a bias, shortcut convolutions have no batch norm, TensorFlow's
    epsilon, padding and truncated He initialisation; 273,066 parameters. Batch statistics everywhere, also in evaluation.

    Stiffness' (docs/papers/stiffness.md): the Keras example, the same without batch norm; 271,690 parameters.

    Args:
        depth: 6 n + 2 for n blocks in each stage.
        width: channels of the first stage before widening.
        widening: k of a wide residual network; the first convolution is widened too.
        shortcuts: False for landscape's networks without them; the ReLU after the block stays.
    """

    def __init__(
        self,
        *,
        classes: int = 10,
        channels: int = 3,
        image_size: int = 32,
        depth: int = 20,
        width: int = 16,
        widening: int = 1,
        shortcuts: bool = True,
        form: Form = LANDSCAPE,
    ) -> None:
        halved(image_size, 2)  # only a check: the weights do not depend on it
        first = width * widening
        block = partial(BasicBlock, form=form, shortcut=shortcuts)
        layers: list[tuple[str, nn.Module]] = [("conv", form.convolution(channels, first, 3)), ("bn", form.norm(first))]
        layers += [("relu", nn.ReLU())]
        for stage, (width_in, filters) in enumerate([(first, first), (first, 2 * first), (2 * first, 4 * first)], start=1):
            blocks = [block(width_in, filters, 1 if stage == 1 else 2)]
            blocks += [block(filters, filters, 1) for _ in range(blocks_per_stage(depth) - 1)]
            layers += [(f"stage{stage}", numbered("block", blocks))]
        super().__init__(OrderedDict([*layers, ("mean", SpatialMean()), ("fc", nn.Linear(4 * first, classes))]))
        form.initialise(self)


resnet20 = partial(ResNet, depth=20)
resnet20_noshort = partial(ResNet, depth=20, shortcuts=False)
resnet56 = partial(ResNet, depth=56)
resnet56_noshort = partial(ResNet, depth=56, shortcuts=False)
resnet110 = partial(ResNet, depth=110)
resnet110_noshort = partial(ResNet, depth=110, shortcuts=False)
wide_resnet56_k1 = partial(ResNet, depth=56, widening=1)
wide_resnet56_k1_noshort = partial(ResNet, depth=56, widening=1, shortcuts=False)
wide_resnet56_k2 = partial(ResNet, depth=56, widening=2)
wide_resnet56_k2_noshort = partial(ResNet, depth=56, widening=2, shortcuts=False)
wide_resnet56_k4 = partial(ResNet, depth=56, widening=4)
wide_resnet56_k4_noshort = partial(ResNet, depth=56, widening=4, shortcuts=False)
wide_resnet56_k8 = partial(ResNet, depth=56, widening=8)
wide_resnet56_k8_noshort = partial(ResNet, depth=56, widening=8, shortcuts=False)
lca_resnet20 = partial(ResNet, depth=20, form=LCA)
stiffness_resnet20 = partial(ResNet, depth=20, form=STIFFNESS)
