"""What is decided before a Gram matrix is computed: each layer's form, by comparison with plain autograd on a few examples."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from replication.objective.coupling import check_padding
from replication.objective.example_sets import ExampleSet
from replication.objective.inputs import Tree, join, tensors_of
from replication.objective.losses import Loss, example_loss
from replication.objective.networks import unwrapped
from replication.objective.options import check_count
from replication.objective.other_weights import refuse_overlooked_weights
from replication.objective.probes import N_UNUSUAL, fixed_selection, unusual
from replication.stiffness.examination import examine, refuse_company, refuse_values_of_other_weights, refuse_weights_of_the_original
from replication.stiffness.example_gradients import Chosen, ExampleGradients, Layer
from replication.stiffness.layer_forms import Calls, LayerForms, UnfitFormError, captured_numbers, dot_products
from replication.stiffness.plan import EXCHANGEABLE, TOLERANCE, Alone, Plan, agrees, text_of

_CHUNK_NUMBERS = 2**23  # captured inputs and outputs at a time
_ALONE = 4  # examples whose gradients are taken one by one before anything else; half of them unusual ones
_RACE_FROM = 96  # examples of the whole set, from which two ways are timed
_RACE_LAYERS = 8  # without a formula for their gradients, from which on vmap of the whole network may win
_SHARE = 0.1  # of the stored numbers that layers in factors may add when they are stored in full
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How gradients are taken; each field is the argument of ``gram`` of that name."""

    layers: Sequence[str] | None = None
    parameters: Chosen = "all"
    theta: Tensor | None = None
    loss: Loss = "cross_entropy"
    dtype: torch.dtype = torch.float64
    device: torch.device | str | None = None
    chunk: int | None = None
    fast: bool = True


def plan_of(model: nn.Module, rows: ExampleSet, columns: ExampleSet | None, options: Options) -> Plan:
    """Compare each layer's form with plain autograd on examples drawn over the whole set, and choose.

    Raises:
        ReplicationError: as ``gram``.
    """
    refuse_overlooked_weights(unwrapped(model), options.loss)
    device = tensors_of(rows.labels)[0].device
    loss = example_loss(options.loss, torch.float64, device)
    source = ExampleGradients(model, theta=options.theta, loss=loss, dtype=options.dtype, device=device, parameters=options.parameters)
    layers = [replace(layer, numbers=source.size(layer)) for layer in source.layers(options.layers)]
    indices = _drawn(rows), None if columns is None else _drawn(columns)
    inputs, labels = fixed_selection(rows, indices[0])
    if columns is not None and indices[1] is not None:
        inputs, labels = (join(pair) for pair in zip((inputs, labels), fixed_selection(columns, indices[1]), strict=True))
    refuse_weights_of_the_original(unwrapped(model), source, inputs, labels)
    gradients, works_together = examine(source, layers, inputs, labels)
    refuse_values_of_other_weights(source, inputs, labels)
    alone = Alone(*indices, gradients, {name: (g @ g.T).double() for name, g in gradients.items()})
    for examples in (rows, columns) if works_together else ():
        if examples is not None:
            drawn = torch.randperm(examples.n, generator=torch.Generator().manual_seed(2))[:N_UNUSUAL].tolist()
            members = torch.tensor(list(dict.fromkeys([*unusual(examples, N_UNUSUAL), *_drawn(examples).tolist(), *drawn])))
            together = examples.select(members)
            refuse_company(source, *together)
            check_padding(examples, members, together, source.losses, TOLERANCE[options.dtype])
    plan = Plan(source, None, {layer.name: layer for layer in layers}, 1, alone)
    calls: dict[str, Calls] = {}
    if options.fast and works_together and not source.network.reentrant:
        calls = _choose_forms(plan, inputs, labels)
        enough = rows.n + (columns.n if columns is not None else 0) >= _RACE_FROM
        _try_vmap(plan, inputs, labels, race=enough)
    captured = sum(captured_numbers(entries) for entries in calls.values())
    automatic = max(1, min(rows.n, _CHUNK_NUMBERS // max(1, captured or sum(layer.numbers for layer in layers))))
    plan.chunk = automatic if options.chunk is None else check_count("chunk", options.chunk)
    return plan


def _drawn(examples: ExampleSet) -> Tensor:
    drawn = torch.randperm(examples.n, generator=torch.Generator().manual_seed(0))[: 2 * _ALONE].tolist()
    return torch.tensor(list(dict.fromkeys([*drawn[: _ALONE // 2], *unusual(examples, _ALONE // 2), *drawn]))[:_ALONE])


def _choose_forms(plan: Plan, inputs: Tree, labels: Tree) -> dict[str, Calls]:
    """Give each layer the best form whose products equal those of plain autograd; return the layers' calls."""
    unfit: dict[str, str] = {}
    try:
        plan.forms = LayerForms(plan.source)
    except Exception as error:  # a network that cannot be copied or captured is no error: the plain ways remain
        plan.demote(plan.layers, f"the network cannot be captured ({text_of(error)})")
        return {}
    calls: dict[str, Calls] | None = None
    while calls is None:
        fit = [layer for layer in plan.layers.values() if layer.name not in unfit]
        try:
            calls = plan.forms.capture(fit, inputs, labels)
        except UnfitFormError as error:
            unfit |= dict.fromkeys(error.layers, error.reason)
        except Exception as error:
            unfit, calls = dict.fromkeys(plan.layers, f"the network cannot be captured ({text_of(error)})"), {}
    plan.graphs |= {(name, plan.forms.graph) for name in plan.layers}
    for name, entries in calls.items():
        layer = _with_form(plan, plan.layers[name], entries)
        if isinstance(layer, str):
            unfit[name] = layer
        else:
            plan.layers[name] = layer
    for name, reason in unfit.items():
        plan.layers[name] = replace(plan.layers[name], form="vmap")
        plan.reasons[name] = reason
    return calls


def _with_form(plan: Plan, layer: Layer, calls: Calls) -> Layer | str:
    """The layer with its form where the products equal those of plain autograd; else the reason why not."""
    assert plan.forms is not None
    form = plan.forms.possible_form(layer, calls)
    if form == "loop":
        return "it is no plain module of torch.nn or shares its parameters"
    candidate = replace(layer, form=form)
    candidate = replace(candidate, numbers=plan.forms.numbers(candidate, calls))
    expected = plan.alone.products[layer.name]
    try:
        stored = plan.forms.stored(candidate, calls, len(expected))
        products = dot_products(stored, stored)
    except Exception as error:  # a module that vmap or this form cannot follow
        return f"its form fails ({text_of(error)})"
    norms = expected.diag().sqrt()
    if products.shape != expected.shape or not agrees(products, expected, norms.outer(norms), plan.source.dtype):
        return "its form disagrees with plain autograd"
    return candidate


def _try_vmap(plan: Plan, inputs: Tree, labels: Tree, *, race: bool) -> None:
    """Find out whether vmap gives the gradients of the examples alone; layers without a form of their own need it."""
    layers = list(plan.layers.values())
    needed = [layer for layer in layers if layer.form == "vmap"]
    exchangeable = [layer for layer in layers if layer.form in EXCHANGEABLE]
    slow = [layer for layer in layers if layer.form == "local" and plan.forms is not None and not plan.forms.has_formula(layer)]
    race = race and len(slow) >= _RACE_LAYERS and not any(layer.form == "unused" for layer in layers)
    if not needed and not race:
        return
    reason = ""
    try:
        for name, (gradients,) in plan.source.by_vmap(layers, inputs, labels).items():
            alone = plan.alone.gradients[name]
            norms = plan.alone.products[name].diag().sqrt()[:, None]
            if not agrees(gradients, alone, norms.expand_as(alone), plan.source.dtype):
                reason = f"vmap disagrees with plain autograd in layer '{name}'"
    except Exception as error:  # whatever vmap cannot follow
        reason = f"vmap fails ({text_of(error)})"
    plan.vmap_works = not reason
    if reason:
        plan.demote([layer.name for layer in needed], reason)
    elif exchangeable and not any(layer.form == "unused" for layer in layers):
        plan.by_vmap = True if needed else None  # what vmap is needed for anyway costs little more for all layers
        _store_small_factors_in_full(plan)


def _store_small_factors_in_full(plan: Plan) -> None:
    """A last linear layer in factors would need a captured pass beside vmap."""
    layers = plan.layers.values()
    factors = [layer for layer in layers if layer.form == "factors"]
    whole = sum(layer.numbers for layer in layers if layer.form in EXCHANGEABLE)
    if sum(plan.source.size(layer) for layer in factors) <= _SHARE * whole:
        for layer in factors:
            plan.layers[layer.name] = replace(layer, form="affine", numbers=plan.source.size(layer))
