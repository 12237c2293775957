"""The zoo itself: members are small, the same at every call, and their oracle is a derivative."""

import copy

import pytest
import torch
import zoo
from torch import nn


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_member_is_the_same_at_every_call_and_its_examples_do_not_interact(name: str) -> None:
    member, again = zoo.build(name), zoo.build(name)
    theta = nn.utils.parameters_to_vector(member.model.parameters()).detach().double()
    assert len(theta) < 2500
    torch.testing.assert_close(theta, nn.utils.parameters_to_vector(again.model.parameters()).detach().double(), rtol=0, atol=0)
    losses, _ = zoo.plain_losses(member, theta)
    assert losses.shape == (zoo.N,)
    part, _ = zoo.plain_losses(again, theta, slice(3, 7))
    torch.testing.assert_close(losses[3:7], part, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_plain_gradient_is_the_slope_along_a_line(name: str) -> None:
    member = zoo.build(name)
    theta = nn.utils.parameters_to_vector(member.model.parameters()).detach().double()
    direction = torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction /= direction.norm()
    slope = (zoo.plain_value(member, theta + 1e-6 * direction) - zoo.plain_value(member, theta - 1e-6 * direction)) / 2e-6
    assert slope == pytest.approx((zoo.plain_gradient(member, theta) @ direction).item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_training_lowers_the_loss_and_calls_back_after_every_step(name: str) -> None:
    member = zoo.build(name)
    model, calls = copy.deepcopy(member.model), []
    before = member.losses(zoo.call(model, member.inputs), member.labels).mean().item()
    member.train(model, 8, after_step=lambda: calls.append(1), rate=0.05)
    assert len(calls) == 8
    assert member.losses(zoo.call(model, member.inputs), member.labels).mean().item() < before
