"""How an optimizer is made of a configuration: groups of parameters, the learning rate's schedule, and freezing."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from replication.errors import ReplicationError
from replication.schema.runs import OptimizerConfig, RunConfig


def learning_rate_factor(config: RunConfig, step: int) -> float:
    """What the schedule multiplies every learning rate with at ``step``; 1 before its first entry and without one.

    Example:
        >>> config = RunConfig.model_construct(schedule={10: 0.1})
        >>> [learning_rate_factor(config, step) for step in (0, 9, 10)]
        [1.0, 1.0, 0.1]
    """
    if not config.schedule:
        return 1.0
    steps = sorted(config.schedule)
    if config.schedule_between == "linear":
        return float(np.interp(step, steps, [config.schedule[at] for at in steps]))
    reached = [at for at in steps if at <= step]
    return config.schedule[reached[-1]] if reached else 1.0


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """SGD is the heavy ball v <- m v + g, theta <- theta - lr v; Adam has PyTorch's betas .9/.999 and, by default, epsilon 1e-8.

    Raises:
        ReplicationError: ``layers`` names a layer that the model does not have.

    Example:
        >>> optimizer = build_optimizer(nn.Linear(2, 1), OptimizerConfig(name="sgd", lr=0.1, momentum=0.9))
        >>> optimizer.param_groups[0]["momentum"]
        0.9
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        layer = next((layer for layer in config.layers if _is_inside(name, layer)), "")
        decays = config.weight_decay_on == "all" or parameter.dim() > 1
        groups.setdefault((layer, decays), {"params": []})["params"].append(parameter)
    for layer in config.layers:
        _check_layer(model, layer, "optimizer.layers")
    for (layer, decays), group in groups.items():
        own = config.layers.get(layer)
        group["lr"] = config.lr if own is None or own.lr is None else own.lr
        group["base_lr"] = group["lr"]
        group["weight_decay"] = config.weight_decay if decays else 0.0
        if config.name == "sgd":
            group["momentum"] = config.momentum if own is None or own.momentum is None else own.momentum
            group["nesterov"] = config.nesterov and group["momentum"] > 0
    settings: dict[str, Any] = {"fused": True} if config.fused else {}  # absent, PyTorch chooses as it always did
    if config.eps is not None:
        settings["eps"] = config.eps
    kind = torch.optim.SGD if config.name == "sgd" else torch.optim.Adam
    return kind(groups.values(), lr=config.lr, **settings)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its own rate times ``factor``.

    Example:
        >>> optimizer = build_optimizer(nn.Linear(2, 1), OptimizerConfig(name="sgd", lr=0.1))
        >>> set_learning_rates(optimizer, 0.5)
        >>> {group["lr"] for group in optimizer.param_groups}
        {0.05}
    """
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def frozen_at(config: RunConfig, step: int) -> list[str]:
    """Layers that are frozen at ``step``, in the order of the configuration.

    Example:
        >>> frozen_at(RunConfig.model_construct(freeze={"fc1": 0, "fc2": 100}), 50)
        ['fc1']
    """
    return [layer for layer, start in config.freeze.items() if start <= step]


def freeze(model: nn.Module, optimizer: torch.optim.Optimizer, layers: Iterable[str]) -> None:
    """Stop ``layers``: no gradient is computed for them, the optimizer forgets them, their batch norms stop (``train_mode``).

    Raises:
        ReplicationError: a layer that the model does not have.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> freeze(model, torch.optim.SGD(model.parameters(), lr=0.1), ["0"])
        >>> [parameter.requires_grad for parameter in model.parameters()]
        [False, False, True, True]
    """
    for layer in layers:
        _check_layer(model, layer, "freeze")
        for name, parameter in model.named_parameters():
            if _is_inside(name, layer):
                parameter.requires_grad_(False)
                parameter.grad = None
                optimizer.state.pop(parameter, None)
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]


def train_mode(model: nn.Module, frozen: Iterable[str]) -> None:
    """Training mode, but evaluation mode in frozen layers: their batch norms neither use nor update batch statistics.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2))
        >>> train_mode(model, ["0"])
        >>> [layer.training for layer in model]
        [False, True]
    """
    model.train()
    for layer in frozen:
        model.get_submodule(layer).eval()


def _is_inside(name: str, layer: str) -> bool:
    return name.startswith(f"{layer}.")


def _check_layer(model: nn.Module, layer: str, key: str) -> None:
    layers = [name for name, module in model.named_modules() if name and any(True for _ in module.parameters())]
    if layer not in layers:
        raise ReplicationError(f"{key} names the layer '{layer}', which the model does not have; allowed: {', '.join(layers)}.")
