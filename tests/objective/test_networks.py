"""Copies of networks: independent, unwrapped, and refused in one sentence where they cannot be had."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from replication.errors import ReplicationError
from replication.objective.networks import copy_of, evaluation_copy, obstacle_to_rewriting, unwrapped

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def pruned() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2))
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


def remembering() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2))
    model.kept = [{"output": model(X)}]  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("build", [pruned, remembering, lambda: nn.utils.spectral_norm(nn.Linear(3, 2))])
def test_attributes_with_a_graph_do_not_hinder_a_copy(build) -> None:  # type: ignore[no-untyped-def]
    model = build()
    duplicate = copy_of(model)
    assert torch.equal(duplicate.eval()(X), model.eval()(X))
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter.zero_()
    assert any(parameter.abs().sum() for parameter in model.parameters())


def test_wrappers_are_taken_off() -> None:
    inner = nn.Linear(3, 2)
    assert unwrapped(nn.DataParallel(torch.compile(inner, backend="eager"))) is inner  # type: ignore[arg-type]


def test_tied_parameters_stay_tied_and_recurrent_weights_stay_in_place() -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    duplicate = evaluation_copy(tied, dtype=torch.float64)
    assert duplicate[1].weight is duplicate[0].weight  # type: ignore[index]
    recurrent = evaluation_copy(nn.LSTM(3, 2), dtype=torch.float64)
    with torch.no_grad():
        for parameter in recurrent.parameters():
            parameter.zero_()
    assert recurrent(X.double())[0].abs().sum() == 0


class Unpicklable(nn.Linear):
    def __deepcopy__(self, memo: object) -> None:
        raise TypeError("cannot pickle 'lock' object")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.LazyLinear(3), "Parameter 'weight' of a lazy module has no shape yet"),
        (lambda x: x, "The model is a function"),
        (Unpicklable(3, 2), "cannot be copied .cannot pickle 'lock' object"),
        (nn.Linear(3, 2, dtype=torch.cfloat), "Parameter 'weight' has type complex64"),
    ],
)
def test_models_that_cannot_be_taken_are_one_sentence(model: nn.Module, words: str) -> None:
    with pytest.raises(ReplicationError, match=words):
        evaluation_copy(model)


def test_obstacles_to_rewriting_are_named() -> None:
    replaced = nn.Linear(3, 2)
    replaced.forward = lambda x: x  # type: ignore[method-assign]
    assert obstacle_to_rewriting(nn.Sequential(replaced)) == "a replaced method"
    assert obstacle_to_rewriting(parametrizations.orthogonal(nn.Linear(3, 2))) == "a parametrisation"
    hooked = nn.Linear(3, 2)
    hooked.register_full_backward_hook(lambda *_: None)
    assert obstacle_to_rewriting(nn.Sequential(hooked)) == "a hook"
    assert obstacle_to_rewriting(nn.LSTM(3, 2)) is None
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert obstacle_to_rewriting(nn.Linear(3, 2)) == "a global hook"
    finally:
        handle.remove()
