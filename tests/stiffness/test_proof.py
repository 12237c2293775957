"""What a pass over the examples and the comparison of results must not let through."""

import pytest
import torch
import torch.nn.functional as F
from conftest import small_mlp
from torch import Tensor, nn

from replication.objective.example_sets import examples_of
from replication.objective.losses import cross_entropy
from replication.stiffness import gram
from replication.stiffness.example_gradients import ExampleGradients
from replication.stiffness.layer_forms import LayerForms, UnfitFormError
from replication.stiffness.proof import refuse_wrong_layers
from replication.stiffness.trial import Options, plan_of

Examples = tuple[Tensor, Tensor]


class ChangedInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 4), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(F.relu_(self.first(images.flatten(1))))


def test_a_pass_sees_changes_in_place_and_rows_that_are_no_examples(examples: Examples) -> None:
    folded = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (4, 4)), nn.Flatten(0, 1), nn.Linear(4, 3), nn.Unflatten(0, (-1, 4)), nn.Flatten())
    for model, layer, reason in ((ChangedInPlace(), "first", "changed in place"), (folded, "3", "rows are not examples")):
        source = ExampleGradients(model.eval(), theta=None, loss=cross_entropy, dtype=torch.float32, device=torch.device("cpu"))
        with pytest.raises(UnfitFormError, match=reason) as caught:
            LayerForms(source).capture(source.layers(None), *examples)
        assert caught.value.layers == {layer}


@pytest.mark.parametrize("per_layer", [True, False])
def test_two_examples_exchanged_are_refused(examples: Examples, per_layer: bool) -> None:
    rows = examples_of(*(tensor[:14] for tensor in examples), None, torch.float64)
    plan = plan_of(small_mlp(), rows, None, Options())
    group = list(plan.layers.values())
    matrices = gram(small_mlp(), *(tensor[:14] for tensor in examples), per_layer=per_layer)
    matrices = {name: matrix for name, matrix in matrices.items() if (name == "total") != per_layer}
    refuse_wrong_layers(plan, group, matrices, rows, None)
    others = [number for number in range(14) if number not in plan.alone.rows.tolist()]  # the weighted sum alone sees these
    for pair in (others[:2], others[-2:], [int(plan.alone.rows[0]), others[0]]):
        order = torch.arange(14)
        order[pair] = order[pair].flip(0)
        wrong = {name: matrix[order][:, order] if name in ("1", "total") else matrix for name, matrix in matrices.items()}
        with pytest.raises(UnfitFormError) as caught:
            refuse_wrong_layers(plan, group, wrong, rows, None)
        assert caught.value.layers == ({"1"} if per_layer else {"1", "3", "5"})


def test_gradients_of_zero_prove_nothing() -> None:
    inputs = torch.zeros(100, 4)
    inputs[70] = 1
    rows = examples_of(inputs, torch.zeros(100, dtype=torch.int64), None, torch.float64)
    plan = plan_of(nn.Linear(4, 2, bias=False), rows, None, Options())
    with pytest.raises(UnfitFormError):
        refuse_wrong_layers(plan, list(plan.layers.values()), {"": torch.zeros(100, 100, dtype=torch.float64)}, rows, None)
