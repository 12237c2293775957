"""Measurements of loss change allocation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from replication.schema.base import Count
from replication.schema.measurements import OfRun, OfRuns


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
    """Sums over layers from a subset of the training set; see ``replication.lca_sampled.along``.

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
    """Totals over layers of several runs that share their seeds, from one fixed subset; see ``replication.lca_sampled.along``.

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
