"""A small training run."""

from replication.schema.runs import RunConfig


def run_config(**changes: object) -> RunConfig:
    settings = {
        "dataset": {"name": "digits"},
        "model": "mnist_fc",
        "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
        "batch_size": 20,
        "steps": 12,
        "seeds": 1,
        "keep": "every_step",
    }
    return RunConfig.model_validate(settings | changes)
