"""What accuracy a few epochs of ResNet-20 on the real CIFAR-10 reach with this package's loop, per seed.

Run: python benchmarks/cifar10_accuracy.py [EPOCHS] [SEED ...]  (one thread; state and results under results/cifar10_accuracy;
a seed that was interrupted continues). One-cycle schedule to a rate of 0.5, batch 256, Nesterov momentum 0.9, weight decay 5e-4,
crop and flip, bfloat16; the whole training set, no validation split, last epoch, no averaging over anything.
"""

import sys
import time
from pathlib import Path

from replication import data, machine, models, training
from replication.files.provenance import processor
from replication.schema.runs import RunConfig
from replication.seeds import derived_seed

BATCH, N_TRAIN = 256, 50_000


def config_of(epochs: int) -> RunConfig:
    steps = epochs * (N_TRAIN // BATCH)
    return RunConfig.model_validate(
        {
            "dataset": {"name": "cifar10", "normalisation": "standardise"},
            "model": "resnet20",
            "optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
            "schedule": {0: 0.1, steps // 4: 1.0, steps: 0.0},
            "schedule_between": "linear",
            "augment": {"crop": 4, "flip": True},
            "batch_size": BATCH,
            "steps": steps,
            "seeds": 1,
            "evaluations": 1,
            "precision": "bfloat16",
            "compile": epochs > 20,  # it pays after minutes
        }
    )


def main() -> None:
    epochs, *seeds = [int(argument) for argument in sys.argv[1:]] or [6, 0]
    device = machine.prepare(threads=1)
    prepared = Path("results/data/cifar10.safetensors")
    if not prepared.exists():
        data.prepare("cifar10", prepared)
    experiment = data.assemble(data.load(prepared), normalisation="standardise", device=device)
    config = config_of(epochs)
    for seed in seeds or [0]:
        model = models.build("resnet20", classes=10, channels=3, seed=derived_seed(seed, "initialisation")).to(device)
        start, started = time.process_time(), time.monotonic()
        folder = Path(f"results/cifar10_accuracy/{epochs}_epochs_seed{seed}")
        trained = training.train(model, experiment, config, seed=seed, folder=folder, progress=machine.reporter(f"seed {seed}"))
        loss, accuracy = training.evaluate(model, experiment.test)
        minutes = (time.process_time() - start) / 60
        resumed = f", resumed at step {trained.resumed_at}" if trained.resumed_at else ""
        place = f"{processor()}, {machine.describe(device)}"
        spent = f"{minutes:.1f} core-minutes, {(time.monotonic() - started) / 60:.1f} minutes on {place}{resumed}"
        print(f"{epochs} epochs, seed {seed}: test accuracy {accuracy:.4f}, test loss {loss:.3f}, {spent}")


if __name__ == "__main__":
    main()
