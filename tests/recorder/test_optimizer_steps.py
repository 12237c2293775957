"""The recorder as a hook of the optimizer: one row per step that was made, in the loops of the usual training frameworks."""

import numpy as np
import pytest
import torch
from conftest import small_mlp
from torch import Tensor, nn

from replication.errors import ReplicationError
from replication.recorder import Recorder
from replication.recorder.optimizer_steps import check_trains

Examples = tuple[Tensor, Tensor]


def weights(model: nn.Module) -> np.ndarray:
    return nn.utils.parameters_to_vector(model.parameters()).detach().numpy().copy()


def backward(model: nn.Module, examples: Examples) -> Tensor:
    loss = nn.functional.cross_entropy(model(examples[0]), examples[1])
    loss.backward()
    return loss


@pytest.mark.parametrize("optimizer_class", [torch.optim.SGD, torch.optim.AdamW])
def test_gradient_accumulation_gives_a_row_per_step_and_not_per_batch(optimizer_class, examples: Examples) -> None:
    model = small_mlp()
    optimizer = optimizer_class(model.parameters(), lr=0.01)
    recorder, path = Recorder(model, optimizer), [weights(model)]
    for batch in range(8):
        backward(model, examples)
        if batch % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
            path.append(weights(model))
    assert recorder.kept == [0, 1, 2]
    np.testing.assert_array_equal(recorder.trajectory, path)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_gradient_scaler_skips_is_no_step(fused: bool, examples: Examples) -> None:
    """With fused optimizers the scaler calls ``step`` all the same, and the optimizer skips it."""
    model = small_mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    recorder = Recorder(model, optimizer)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale(nn.functional.cross_entropy(model(examples[0]), examples[1])).backward()
        if step == 1:
            next(model.parameters()).grad[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
    assert recorder.kept == [0, 1, 2, 3]
    assert (np.abs(np.diff(recorder.trajectory, axis=0)).sum(1) > 0).all()


def test_a_closure_as_lightning_gives_it_is_one_step(examples: Examples) -> None:
    """Lightning passes forward and backward to ``step`` as a closure, and hands out a wrapper that shares the optimizer's attributes."""
    model = small_mlp()

    class LightningOptimizer:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.__dict__ = {key: value for key, value in vars(optimizer).items() if key != "step"}
            self._optimizer = optimizer

        def step(self, closure) -> None:
            self._optimizer.step(closure=closure)

    wrapper = LightningOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    recorder = Recorder(model, wrapper)

    def closure() -> Tensor:
        wrapper._optimizer.zero_grad()
        return backward(model, examples)

    for _ in range(3):
        wrapper.step(closure)
    assert recorder.kept == [0, 1, 2, 3]


def test_the_hugging_face_trainer_s_optimizer_is_looked_through(examples: Examples) -> None:
    """Accelerate's wrapper is an optimizer without hooks of its own, and makes no step while gradients are accumulated."""
    model = small_mlp()

    class AcceleratedOptimizer(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer, self.sync_gradients = optimizer, True

        def step(self, closure=None) -> None:
            if self.sync_gradients:
                self.optimizer.step(closure)

    optimizer = AcceleratedOptimizer(torch.optim.AdamW(model.parameters(), lr=0.01))
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer.optimizer)
    recorder = Recorder(model, optimizer)
    for batch in range(6):
        backward(model, examples)
        optimizer.sync_gradients = batch % 2 == 1
        optimizer.step()
        if optimizer.sync_gradients:
            scheduler.step()
            optimizer.optimizer.zero_grad()
    assert recorder.kept == [0, 1, 2, 3]


def test_a_step_that_calls_its_parent_s_step_is_one(examples: Examples) -> None:
    class Decayed(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter *= 0.9

    model = small_mlp()
    torch.optim.SGD(model.parameters(), lr=0.1)  # its class calls hooks from now on, too
    optimizer = Decayed(model.parameters(), lr=0.1)
    recorder = Recorder(model, optimizer)
    backward(model, examples)
    optimizer.step()
    assert recorder.kept == [0, 1]
    np.testing.assert_array_equal(recorder.trajectory[1], weights(model))


def test_the_hook_goes_with_the_recorder(examples: Examples, tmp_path) -> None:
    model = small_mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        return backward(model, examples)

    with Recorder(model, optimizer, every=2, folder=tmp_path) as recorder:
        for _ in range(3):
            optimizer.step(closure)
        with pytest.raises(ReplicationError, match=r"sees its steps; leave out recorder\.step"):
            recorder.step()
    optimizer.step(closure)
    assert recorder.kept == [0, 2, 3]


def test_what_is_no_optimizer_of_torch_gets_one_sentence() -> None:
    class Lookahead:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer

    model = small_mlp()
    with pytest.raises(ReplicationError, match=r"a Lookahead as optimizer; give a torch\.optim\.Optimizer, or leave it out and call"):
        Recorder(model, Lookahead(torch.optim.SGD(model.parameters(), lr=0.1)))


def test_an_optimizer_of_one_flat_vector_trains_the_model() -> None:
    model = torch.nn.Linear(2, 1)
    flat = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.nn.utils.vector_to_parameters(flat, model.parameters())  # the parameters are views of the vector
    check_trains(torch.optim.SGD([flat], lr=0.1), model)
    with pytest.raises(ReplicationError, match="no parameter of the model"):
        check_trains(torch.optim.SGD([flat.clone()], lr=0.1), model)


def test_weights_that_are_changed_after_the_step_need_a_recorder_without_the_optimizer(examples: Examples) -> None:
    model = small_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    recorder = Recorder(model, optimizer)
    backward(model, examples)
    optimizer.step()
    with torch.no_grad():
        model[1].weight.data.clamp_(-0.1, 0.1)  # as a Wasserstein critic is
    with pytest.raises(ReplicationError, match="after step 1 was recorded; leave the optimizer out"):
        optimizer.step()
    recorder.close()
    with Recorder(model) as by_hand:
        optimizer.step()
        with torch.no_grad():
            model[1].weight.data.clamp_(-0.1, 0.1)
        by_hand.step()
    np.testing.assert_array_equal(by_hand.trajectory[-1], weights(model))


def test_weights_that_are_swapped_and_brought_back_between_steps_do_no_harm(examples: Examples) -> None:
    model = small_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    recorder = Recorder(model, optimizer)
    for _ in range(3):
        backward(model, examples)
        optimizer.step()
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        nn.init.zeros_(model[1].weight)  # an evaluation at averaged weights
        model.load_state_dict(state)
    assert recorder.kept == [0, 1, 2, 3]


def test_an_optimizer_that_another_one_replaced_is_noticed_at_the_end(examples: Examples, caplog: pytest.LogCaptureFixture) -> None:
    model = small_mlp()
    optimizer, later = (torch.optim.SGD(model.parameters(), lr=0.5) for _ in range(2))
    recorder = Recorder(model, optimizer)
    for each in (optimizer, later):
        backward(model, examples)
        each.step()
    recorder.close()
    assert "not those of the last recorded step (1)" in caplog.text
