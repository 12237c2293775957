"""What measurements of all instruments have in common: which trainings one seed of them reads, and into how many jobs it is cut."""

from collections.abc import Mapping
from typing import ClassVar

from replication.schema.base import Count, Name, Strict
from replication.schema.runs import RunConfig


class MeasurementConfig(Strict):
    """An instrument pointed at something; ``replication.measurements.<instrument>`` makes it."""

    needs_every_step: ClassVar[bool] = False  # weights kept after every step

    instrument: str

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:
        """Run and seed of every training that ``seed`` of this measurement reads; none for theory and toys."""
        raise NotImplementedError

    def sources_of_part(self, seed: int, part: int) -> tuple[tuple[str, int], ...]:
        """Those of ``sources(seed)`` that one part reads; all of them unless the parts divide them."""
        return self.sources(seed)

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:
        """How many seeds there are to measure."""
        raise NotImplementedError

    @property
    def run_names(self) -> tuple[str, ...]:
        """The runs that are read, each once."""
        return tuple(dict.fromkeys(run for run, _ in self.sources(0)))

    @property
    def parts(self) -> int:
        """Into how many jobs one seed is scattered."""
        return 1


class OfRun(MeasurementConfig):
    """A measurement of one run: seed by seed."""

    run: Name

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return ((self.run, seed),)

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return runs[self.run].seeds


class OfRuns(MeasurementConfig):
    """A measurement of several runs that share a seed (and with it initialisation and batch order)."""

    runs: list[Name]

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return tuple((run, seed) for run in self.runs)

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return min(runs[run].seeds for run in self.runs)


class Untrained(MeasurementConfig):
    """A measurement that reads no training: theory, toys, synthetic data."""

    seeds: Count

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return ()

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return self.seeds
