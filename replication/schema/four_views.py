"""The measurement of the four views of one training."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from replication.schema.base import Count
from replication.schema.measurements import OfRun


class FourViewsConfig(OfRun):
    """Every instrument on one run whose weights were kept after every step; see ``replication.measurements.four_views``.

    Attributes:
        steps: checkpoints, from 0 on, at which similarity, stiffness and curvature are measured; loss change is allocated in every step.
        layers: modules whose outputs are compared with their final ones; matrices and maps of them by ``layer_rows.neurons``.
        examples: test images for the similarities, the first ones.
        probe: training examples for stiffness, class-balanced and the same at every checkpoint.
        tolerance: relative, of the eigenvalues' residuals.
        max_products: Hessian-vector products at a checkpoint, at most.
    """

    needs_every_step: ClassVar[bool] = True

    instrument: Literal["four_views"]
    steps: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=3)]
    layers: Annotated[list[str], Field(min_length=2)]
    examples: Count
    probe: Count
    tolerance: Annotated[float, Field(gt=0)] = 0.01
    max_products: Count = 60

    @model_validator(mode="after")
    def _from_the_start(self) -> Self:
        if self.steps[0] != 0 or any(later <= earlier for earlier, later in pairwise(self.steps)):
            raise ValueError(f"has the checkpoints {self.steps}; give increasing ones that begin with 0")
        return self
