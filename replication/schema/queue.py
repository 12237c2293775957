"""The queue of full-scale experiments that ``replicate record`` works through."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from replication.schema.base import Count, Name, Strict


class QueueEntry(Strict):
    """Measurements, or runs whose logs a figure is drawn from, that are recorded seed by seed.

    Attributes:
        seeds: of the first seeds only; a later entry may name the same measurements again for the others.
        minutes: of one seed, trainings included, on one GPU.
        minutes_are: where that number comes from.
        side_by_side: how many jobs of this entry share a GPU; small networks leave most of it idle.
    """

    paper: Name
    measurements: list[Name] = []
    runs: list[Name] = []
    seeds: Count | None = None
    minutes: Annotated[float, Field(gt=0)]
    minutes_are: Literal["measured", "estimated"]
    side_by_side: Count = 1

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.measurements and not self.runs:
            raise ValueError("records nothing; name measurements or runs")
        return self


class Queue(Strict):
    """Entries in the order in which they are worked through."""

    queue: list[QueueEntry]
