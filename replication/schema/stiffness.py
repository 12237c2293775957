"""Measurements of stiffness."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from replication.schema.base import Count
from replication.schema.measurements import OfRuns

ALL_BUT_LAST = "all but last"  # in the column ``layer`` of the tables: the sum of all layers except the last one


class StiffnessConfig(OfRuns):
    """Gram matrices of a fixed probe at chosen checkpoints of several runs; see ``replication.measurements.stiffness_probe``.

    Attributes:
        steps: checkpoints measured in every run; their weights must be kept.
        losses: training losses at which each run is measured too, at the kept checkpoint that is nearest (in the logarithm)
            up to the first one at or below it.
        probe: training examples, class-balanced and the same at every checkpoint.
        validation_probe: validation examples beside them; 0 leaves the pairs with validation examples out.
        layers: also every layer's own matrices.
        representations: modules whose outputs give similarities beside those of the inputs; an empty list leaves distances out.
        resamples: of examples, for intervals of the critical length; 0 for none.
        super_classes: groups of classes to compare.
        permutations: random groupings for their test.
        starts: also the untrained network under other initialisations and scalings of the inputs.
        probe_seed: of the choice of the probe.
    """

    instrument: Literal["stiffness"]
    steps: list[Annotated[int, Field(ge=0)]] = []
    losses: list[Annotated[float, Field(gt=0)]] = []
    probe: Count
    validation_probe: Annotated[int, Field(ge=0)] = 0
    layers: bool = False
    representations: list[str] = []
    resamples: Annotated[int, Field(ge=0)] = 0
    super_classes: Literal["cifar100", "neighbours"] | None = None
    permutations: Count = 10_000
    starts: bool = False
    probe_seed: int = 0


class StiffnessV1Config(OfRuns):
    """Validation pairs as version 1 of the paper measures them, in two precisions; see ``replication.measurements.stiffness_v1``.

    Every run is a part of its own.

    Attributes:
        steps: checkpoints measured in every run; their weights must be kept.
        losses: training losses measured too, of the runs' ``stop_at_losses``; a loss that a run did not reach is left out.
        matrices: steps whose whole class matrices are kept.
        per_class: validation images of each class; the same at every checkpoint.
        training_loss: also the loss of the whole training set at every step.
        representations: modules whose outputs give similarities beside those of the inputs; an empty list leaves distances out.
        super_classes: groups of classes to compare at the last of ``matrices``.
        permutations: random groupings for their test.
        probe_seed: of the choice of the images.
    """

    instrument: Literal["stiffness_v1"]
    steps: list[Annotated[int, Field(ge=0)]] = []
    losses: list[Annotated[float, Field(gt=0)]] = []
    matrices: list[Annotated[int, Field(ge=0)]] = []
    per_class: Count
    training_loss: bool = False
    representations: list[str] = []
    super_classes: Literal["cifar100", "neighbours"] | None = None
    permutations: Count = 10_000
    probe_seed: int = 0

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if missing := [step for step in self.matrices if step not in self.steps]:
            raise ValueError(f"keeps the class matrices of step {missing[0]}, which is not one of its steps {self.steps}; add it to steps")
        if self.super_classes and not self.matrices:
            raise ValueError("compares super_classes, for which it needs a step under matrices; add one")
        return self

    def sources_of_part(self, seed: int, part: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return ((self.runs[part], seed),)

    @property
    def parts(self) -> int:  # noqa: D102 - as in the base class
        return len(self.runs)
