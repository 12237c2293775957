"""Importing torchvision where its compiled operators do not load.

A torchvision wheel built for another torch (CUDA beside CPU) cannot load its compiled operators; its import then fails
when it registers details of two of them, ``nms`` and ``qnms``, although nothing here uses either. Declaring the two
(a signature, no implementation) lets the import pass; calling them still fails.
"""

import importlib
import sys
from types import ModuleType

import torch

_MISSING = "operator torchvision::nms does not exist"
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# The declarations live as long as this object does.
_libraries: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """The torchvision module.

    Raises:
        ImportError, RuntimeError: torchvision is not installed or is broken in another way than the one above.

    Example:
        >>> import_torchvision().__name__
        'torchvision'
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    if not _libraries:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + _SIGNATURE)
        _libraries.append(library)
    return importlib.import_module("torchvision")
