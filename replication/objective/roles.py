"""What a parameter tensor is in its module: told by the module's type and the tensor's name, not by its number of axes."""

import re
from dataclasses import dataclass
from typing import Literal

from torch import nn

_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)
_NAMED_NORMALISATION = re.compile(r"Norm(\dd)?$")  # of other libraries: LlamaRMSNorm, FrozenBatchNorm2d
_BIAS = re.compile(r"^bias(_|$)|_bias$")  # bias, bias_ih_l0, in_proj_bias
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Role:
    """What a parameter tensor is.

    Attributes:
        kind: ``"bias"``; ``"normalisation"`` for all tensors of batch, layer, group and similar norms; ``"weight"`` for all others.
        transposed_groups: the number of groups of a transposed convolution's weight, whose filters lie along its second axis; else 0.
    """

    kind: Literal["weight", "bias", "normalisation"]
    transposed_groups: int = 0


WEIGHT = Role("weight")


def role_of(model: nn.Module, name: str) -> Role:
    """The role of the parameter ``name``. A tied parameter has that of its first name.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.PReLU())
        >>> [role_of(model, name).kind for name, _ in model.named_parameters()]
        ['weight', 'bias', 'normalisation', 'normalisation', 'weight']
    """
    path, tensor = _owner_and_tensor(name)
    owner = model.get_submodule(path)
    if isinstance(owner, _NORMALISATIONS) or _NAMED_NORMALISATION.search(type(owner).__name__):
        return Role("normalisation")
    if _BIAS.search(tensor):
        return Role("bias")
    return Role("weight", owner.groups) if isinstance(owner, _TRANSPOSED) else WEIGHT


def _owner_and_tensor(name: str) -> tuple[str, str]:
    """The module and the name of a tensor in it; of a parametrised tensor, those of the tensor that it makes."""
    before, parametrised, after = name.rpartition("parametrizations.")
    if parametrised:
        return before.rstrip("."), after.partition(".")[0]
    path, _, tensor = name.rpartition(".")
    return path, tensor
