"""Measurements of stiffness."""

from typing import Annotated, Literal

from pydantic import Field

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
