"""How the Gram matrices of one model are computed: by which form of every layer, and how many examples at a time."""

import itertools
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.objective.inputs import Tree
from replication.stiffness.example_gradients import ExampleGradients, Form, Layer, Stored
from replication.stiffness.layer_forms import LayerForms, UnfitFormError, in_window_order

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}  # relative, of products and losses that must agree
EXCHANGEABLE: tuple[Form, ...] = ("affine", "local")  # forms that store what vmap gives
_CAPTURED: tuple[Form, ...] = ("factors", "affine", "local", "unused")
_RACE_EXAMPLES = 16  # of each way in a race of two ways
_RACE_MARGIN = 0.85  # of the other way's time that vmap must stay below
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alone:
    """Examples drawn over the whole set, with gradients taken one by one.

    Attributes:
        rows, columns: indices of the examples; ``columns`` is None for one set.
        gradients: by layer, first of the rows, then of the columns.
        products: their dot products by layer, float64.
    """

    rows: Tensor
    columns: Tensor | None
    gradients: dict[str, Tensor]
    products: dict[str, Tensor]


@dataclass
class Plan:
    """How the Gram matrices of one model are computed.

    Attributes:
        source: takes gradients one by one, and by vmap.
        forms: takes them layer by layer; None where nothing but the loop is used.
        layers: the layers asked for by name, each with its form, in the order of the model.
        chunk: examples in a forward and backward pass.
        alone: examples to check results with.
        vmap_works: vmap agreed with the gradients of these.
        by_vmap: layers in exchangeable forms go through vmap; None until both ways were timed.
        graphs: layers with the shapes of the graphs for which their gradients were compared with plain autograd.
        reasons: why layers have no form of their own, by name.
    """

    source: ExampleGradients
    forms: LayerForms | None
    layers: dict[str, Layer]
    chunk: int
    alone: Alone
    vmap_works: bool = False
    by_vmap: bool | None = False
    graphs: set[tuple[str, frozenset[Any]]] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    _seconds: list[float] = field(default_factory=list)

    def gradients(self, group: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Stored]:
        """What is kept of a chunk of examples, by layer.

        Raises:
            UnfitFormError: a form that does not hold for these examples.
        """
        exchanged = [layer for layer in group if layer.form == "vmap" or (self.by_vmap and layer.form in EXCHANGEABLE)]
        captured = [layer for layer in group if layer.form in _CAPTURED and layer not in exchanged]
        looped = [layer for layer in group if layer.form == "loop"]
        stored: dict[str, Stored] = {}
        try:
            if captured and self.forms is not None:
                stored |= self.forms.gradients(captured, inputs, labels)
        except (UnfitFormError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise UnfitFormError([layer.name for layer in captured], f"a pass fails ({text_of(error)})") from error
        if exchanged:
            stored |= self._by_vmap(exchanged, inputs, labels)
        if looped:
            stored |= self.source.one_by_one(looped, inputs, labels)[0]
        return stored

    def _by_vmap(self, layers: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Stored]:
        try:
            plain = self.source.by_vmap(layers, inputs, labels)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self.vmap_works = self.by_vmap = False
            raise UnfitFormError([layer.name for layer in layers if layer.form == "vmap"], f"vmap fails ({text_of(error)})") from error
        modules: dict[str, nn.Module] = self.forms.modules if self.forms is not None else {}
        return {layer.name: (in_window_order(modules.get(layer.name), layer, *plain[layer.name]),) for layer in layers}

    def pieces(self, group: Sequence[Layer], start: int, stop: int) -> Sequence[slice]:
        """The examples from ``start`` to ``stop`` as chunks; smaller ones first where two ways are timed."""
        edges = [start]
        if self.by_vmap is None and stop - start >= 3 * _RACE_EXAMPLES and any(layer.form in EXCHANGEABLE for layer in group):
            edges += [start + _RACE_EXAMPLES, start + 2 * _RACE_EXAMPLES]
        edges += [*range(edges[-1] + self.chunk, stop, self.chunk), stop]
        return [slice(first, last) for first, last in itertools.pairwise(edges)]

    def timed_gradients(self, group: Sequence[Layer], inputs: Tree, labels: Tree) -> dict[str, Stored]:
        """As ``gradients``; the first two chunks try both ways, and the faster one makes the rest."""
        if self.by_vmap is not None or not any(layer.form in EXCHANGEABLE for layer in group):
            return self.gradients(group, inputs, labels)
        self.by_vmap = bool(self._seconds)
        _synchronise(self.source.device)
        start = time.perf_counter()
        stored = self.gradients(group, inputs, labels)
        _synchronise(self.source.device)
        self._seconds.append(time.perf_counter() - start)
        self.by_vmap = None if len(self._seconds) == 1 else self._seconds[1] < _RACE_MARGIN * self._seconds[0]
        return stored

    def demote(self, names: Collection[str], reason: str) -> None:
        """Give layers the next plainer form: vmap where it works, else the loop."""
        for name in names:
            layer = self.layers[name]
            plainer: Form = "vmap" if self.vmap_works and layer.form in _CAPTURED else "loop"
            self.reasons[name] = reason
            self.layers[name] = replace(layer, form=plainer, numbers=self.source.size(layer))
        if any(layer.form == "unused" for layer in self.layers.values()):
            self.by_vmap = False

    def log(self) -> None:
        """Say at INFO which layers have no form of their own, and why."""
        names: dict[tuple[str, str], list[str]] = {}
        for name, reason in self.reasons.items():
            names.setdefault((self.layers[name].form, reason), []).append(f"'{name}'")
        for (form, reason), members in names.items():
            _LOG.info("Gradients of layers %s are taken by %s over whole examples, since %s.", ", ".join(members), form, reason)


def positive(name: str, value: float) -> float:
    """The value of an argument that must be above zero.

    Raises:
        ReplicationError: it is not.
    """
    if not value > 0:
        raise ReplicationError(f"The {name} is {value}; give a positive number.")
    return value


def agrees(actual: Tensor, expected: Tensor, scale: Tensor, dtype: torch.dtype) -> bool:
    """Whether products agree to rounding, relative to ``scale``, wherever the expected ones are finite."""
    compared = expected.isfinite()
    differences = (actual.double() - expected.double()).abs()
    return bool((differences <= TOLERANCE[dtype] * scale.double())[compared].all())


def text_of(error: Exception) -> str:
    """The message on one line, cut."""
    return " ".join(str(error).split())[:200]


def _synchronise(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
