"""The import works whether or not torchvision's compiled operators load."""

import importlib
import sys
from types import ModuleType

import pytest
import torch

from replication.data.sources import import_torchvision, torchvision_shim

MISSING = RuntimeError("operator torchvision::nms does not exist")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torchvision as it is beside a foreign torch: its import fails until the operators are declared. Returns what is declared."""
    declared: list[str] = []

    class Library:
        def __init__(self, namespace: str, kind: str) -> None:
            assert (namespace, kind) == ("torchvision", "DEF")

        def define(self, signature: str) -> None:
            declared.append(signature)

    def imported(name: str) -> ModuleType:
        if len(declared) < 2:
            sys.modules["torchvision.half"] = ModuleType("torchvision.half")
            raise MISSING
        return ModuleType(name)

    monkeypatch.setattr(torch.library, "Library", Library)
    monkeypatch.setattr(torchvision_shim, "_libraries", [])
    monkeypatch.setattr(sys, "modules", {**sys.modules, "torchvisionary": ModuleType("torchvisionary")})
    monkeypatch.setattr(importlib, "import_module", imported)
    return declared


def test_the_module_is_usable_and_imported_once() -> None:
    torchvision = import_torchvision()
    assert torchvision.__name__ == "torchvision"
    assert torchvision.datasets.MNIST.resources[0][0] == "train-images-idx3-ubyte.gz"
    assert import_torchvision() is torchvision


def test_missing_operators_are_declared_and_half_imported_modules_purged(broken: list[str]) -> None:
    assert import_torchvision().__name__ == "torchvision"
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    assert broken == ["nms" + signature, "qnms" + signature]
    assert len(torchvision_shim._libraries) == 1
    assert "torchvision.half" not in sys.modules
    assert "torchvisionary" in sys.modules


def test_operators_are_declared_once_only(broken: list[str]) -> None:
    import_torchvision()
    import_torchvision()
    assert len(broken) == 2


@pytest.mark.parametrize("error", [RuntimeError("another trouble"), ImportError("No module named 'torchvision'")])
def test_other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(type(error), match=str(error)):
        import_torchvision()
