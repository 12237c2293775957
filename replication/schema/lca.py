"""Measurements of loss change allocation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from replication.schema.base import Count
from replication.schema.measurements import OfRun, OfRuns, Untrained


class LcaConfig(OfRun):
    """Loss change allocation along a run whose weights were kept after every step; see ``replication.lca.along``.

    Attributes:
        spans: jobs that one seed is cut into.
        by_class: also split over the classes.
        validation: how many validation examples to allocate in the same pass; 0 for none.
        trace: a layer whose parameters are followed one by one for ``trace_steps`` steps in the middle of the run.
    """

    needs_every_step: ClassVar[bool] = True

    instrument: Literal["lca"]
    spans: Count = 1
    max_error: Annotated[float, Field(gt=0)] = 1e-3
    max_intervals: Literal[2, 4, 8, 16, 32, 64] = 32
    by_class: bool = False
    validation: Annotated[int, Field(ge=0)] = 0
    trace: str | None = None
    trace_steps: Count = 60
    batch_norm: Literal["running", "batch"] = "running"
    chunk: Count | None = None

    @property
    def parts(self) -> int:
        """One for each span of iterations."""
        return self.spans


class SampledLcaConfig(OfRun):
    """Sums over layers from a subset of the training set; see ``replication.lca.sampled.along``.

    ``subset`` is "fresh" (drawn anew in every step), "fixed" (one for the whole run) or "minibatch" (the examples that made the
    step: the control, since the step was fitted to them).
    """

    needs_every_step: ClassVar[bool] = True

    instrument: Literal["lca_sampled"]
    spans: Count = 1
    subset: Literal["fresh", "fixed", "minibatch"] = "fresh"
    examples: Count
    groups: Annotated[int, Field(ge=2)] = 10
    seed: int = 0
    intervals: Literal[2, 4, 8, 16] = 2
    batch_norm: Literal["running", "batch"] = "running"
    chunk: Count | None = None

    @property
    def parts(self) -> int:
        """One for each span of iterations."""
        return self.spans


class LcaLayersConfig(OfRuns):
    """Totals over layers of several runs that share their seeds, from one fixed subset; see ``replication.lca.sampled.along``.

    Attributes:
        examples: of the subset; the whole training set where it has no more.
        opening: iterations of the opening phase, which the totals ``lca_late`` leave out.
        scatter: whether each run is a job of its own.
    """

    needs_every_step: ClassVar[bool] = True

    instrument: Literal["lca_layers"]
    examples: Count
    groups: Annotated[int, Field(ge=2)] = 10
    seed: int = 0
    opening: Count
    intervals: Literal[2, 4, 8, 16] = 2
    scatter: bool = False
    batch_norm: Literal["running", "batch"] = "running"
    chunk: Count | None = None

    @property
    def parts(self) -> int:
        """One for each run, or one."""
        return len(self.runs) if self.scatter else 1

    def sources_of_part(self, seed: int, part: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return self.sources(seed)[part : part + 1] if self.scatter else self.sources(seed)


class LcaSharesConfig(OfRuns):
    """How many parameters help in each iteration of several runs; see ``replication.lca.along``.

    Attributes:
        spans: pieces of each run.
        scatter: whether each piece of each run is a job of its own.
    """

    needs_every_step: ClassVar[bool] = True

    instrument: Literal["lca_shares"]
    spans: Count = 1
    scatter: bool = False
    max_error: Annotated[float, Field(gt=0)] = 1e-3
    max_intervals: Literal[2, 4, 8, 16, 32, 64] = 32
    batch_norm: Literal["running", "batch"] = "running"
    chunk: Count | None = None

    @property
    def parts(self) -> int:
        """One for each piece, or one."""
        return len(self.runs) * self.spans if self.scatter else 1

    def sources_of_part(self, seed: int, part: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        run = part // self.spans
        return self.sources(seed)[run : run + 1] if self.scatter else self.sources(seed)


class LcaToyConfig(Untrained):
    """Exact allocation on the two-parameter losses of ``replication.measurements.lca_toy``.

    Attributes:
        steps, oscillation_steps: iterations of the path with an idle parameter, and of each oscillation.
        delays: mean ages m / (1 - m) of the gradients that move the oscillation's second parameter; the last one also without coupling.
    """

    instrument: Literal["lca_toy"]
    steps: Count = 30
    oscillation_steps: Count = 200
    delays: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0, 1, 2, 3, 5]


class LcaFramesConfig(OfRun):
    """Allocation to every parameter of linear layers in a few iterations; see ``replication.measurements.lca_frames``.

    Attributes:
        frames: how many iterations, evenly spread over the logarithm of their number from the first to the last.
        units: of the first layer, how many hidden units are kept as images.
        pictured_seeds: of how many seeds single parameters are kept; the others give shares only.
    """

    needs_every_step: ClassVar[bool] = True

    instrument: Literal["lca_frames"]
    frames: Annotated[int, Field(ge=2)] = 24
    units: Count = 10
    pictured_seeds: Count = 1


LcaMeasurement = LcaConfig | LcaFramesConfig | LcaLayersConfig | LcaSharesConfig | LcaToyConfig | SampledLcaConfig
