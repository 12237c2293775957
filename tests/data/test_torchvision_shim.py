"""The import works whether or not torchvision's compiled operators load."""

import importlib
import importlib.util
import sys
import weakref
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch

from replication.data.sources import import_torchvision
from replication.data.sources import torchvision_shim as shim_of_this_process

MISSING = RuntimeError("operator torchvision::nms does not exist")


@pytest.fixture
def shim() -> ModuleType:
    """The module as a new process has it: no operator is declared yet."""
    spec = importlib.util.find_spec(shim_of_this_process.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Declared:
    """Signatures of the operators that were declared, and the objects on whose life the declarations depend."""

    signatures: list[str] = field(default_factory=list)
    libraries: list[weakref.ref[object]] = field(default_factory=list)


@pytest.fixture
def broken(shim: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Declared:
    """torchvision as it is beside a foreign torch: its import fails until the operators are declared. Returns what is declared."""
    declared = Declared()

    class Library:
        def __init__(self, namespace: str, kind: str) -> None:
            assert (namespace, kind) == ("torchvision", "DEF")
            declared.libraries.append(weakref.ref(self))

        def define(self, signature: str) -> None:
            declared.signatures.append(signature)

    def imported(name: str) -> ModuleType:
        if len(declared.signatures) < 2:
            sys.modules["torchvision.half"] = ModuleType("torchvision.half")
            raise MISSING
        return ModuleType(name)

    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(sys, "modules", {**sys.modules, "torchvisionary": ModuleType("torchvisionary")})
    monkeypatch.setattr(importlib, "import_module", imported)
    return declared


def test_the_module_is_usable_and_imported_once() -> None:
    torchvision = import_torchvision()
    assert torchvision.__name__ == "torchvision"
    assert torchvision.datasets.MNIST.resources[0][0] == "train-images-idx3-ubyte.gz"
    assert import_torchvision() is torchvision


def test_missing_operators_are_declared_and_half_imported_modules_purged(shim: ModuleType, broken: Declared) -> None:
    assert shim.import_torchvision().__name__ == "torchvision"
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    assert broken.signatures == ["nms" + signature, "qnms" + signature]
    assert [library() is not None for library in broken.libraries] == [True], "one, and it is kept alive"
    assert "torchvision.half" not in sys.modules
    assert "torchvisionary" in sys.modules


def test_operators_are_declared_once_only(shim: ModuleType, broken: Declared) -> None:
    shim.import_torchvision()
    shim.import_torchvision()
    assert len(broken.signatures) == 2


@pytest.mark.parametrize("error", [RuntimeError("another trouble"), ImportError("No module named 'torchvision'")])
def test_other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(type(error), match=str(error)):
        import_torchvision()
