"""The queue of full-scale experiments that ``replicate record`` works through."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from replication.schema.base import Count, Name, Strict

Device = Literal["cpu", "gpu"]
Minutes = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class QueueEntry(Strict):
    """Measurements, or runs whose logs a figure is drawn from, that are recorded seed by seed.

    Attributes:
        seeds: of the first seeds only; a later entry may name the same measurements again for the others.
        core_minutes: of one seed, trainings included, on one core of a processor.
        core_minutes_are: ``measured`` on at least one seed, or from ``flops``, at the rate measured for that kind of network.
        gpu_minutes: of one seed, trainings included, on one GPU.
        gpu_minutes_are: ``measured``, or ``estimated`` from multiply-accumulates and the number of launches.
        side_by_side: how many jobs of this entry share a GPU; small networks leave most of it idle.
    """

    paper: Name
    measurements: list[Name] = []
    runs: list[Name] = []
    seeds: Count | None = None
    core_minutes: Minutes
    core_minutes_are: Literal["measured", "flops"]
    gpu_minutes: Minutes
    gpu_minutes_are: Literal["measured", "estimated"]
    side_by_side: Count = 1

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.measurements and not self.runs:
            raise ValueError("records nothing; name measurements or runs")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Its measurements and runs."""
        return (*self.measurements, *self.runs)

    def minutes(self, device: Device) -> float:
        """What one seed costs on a device."""
        return self.gpu_minutes if device == "gpu" else self.core_minutes


class Queue(Strict):
    """Entries in any order: ``replicate record`` takes the cheapest first, which depends on the device."""

    queue: list[QueueEntry]
