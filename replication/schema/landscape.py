"""Measurements of the landscape paper (Li et al. 2018, arXiv 1712.09913)."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from replication.schema.base import Count
from replication.schema.measurements import OfRuns

Normalisation = Literal["filter", "layer", "none"]


class Scattered(OfRuns):
    """Runs of a seed that are measured one by one.

    Attributes:
        jobs: into how many jobs a seed is split; by default one for each run.
    """

    jobs: Count | None = None

    @property
    def parts(self) -> int:
        """Jobs of a seed."""
        return min(self.jobs or len(self.runs), len(self.runs))

    def sources_of_part(self, seed: int, part: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return self.sources(seed)[part :: self.parts]


class Slices(Scattered):
    """Common settings of slices of the loss.

    Attributes:
        examples: training images on which the loss is evaluated, the first ones; all of them by default.
        reach: slices go from -reach to reach.
        points: along an axis; odd, so that the minimiser is one of them.
    """

    examples: Count | None = None
    reach: Annotated[float, Field(gt=0)] = 1.0
    points: Annotated[int, Field(ge=3)]

    @model_validator(mode="after")
    def _centred(self) -> Self:
        if self.points % 2 == 0:
            raise ValueError(f"has {self.points} points along an axis; give an odd number, so that the minimiser is one of them")
        return self


class SurfaceConfig(Slices):
    """Surfaces around trained networks, and the networks' losses and errors (landscape, Figures 1, 3, 4, 5, 6 and Table 2).

    Attributes:
        directions: pairs of random directions, filter-normalised; no two seeds share one.
        test_examples: test images of the error, the first ones; all of them by default.
        at_losses: run -> one of its ``stop_at_losses``: its surface is that of the weights which first had this training loss, so that
            networks are compared at the same loss. The other runs have their final weights.
    """

    instrument: Literal["landscape_surface"]
    directions: Count = 1
    test_examples: Count | None = None
    at_losses: dict[str, Annotated[float, Field(gt=0)]] = {}

    @model_validator(mode="after")
    def _known_runs(self) -> Self:
        if unknown := [run for run in self.at_losses if run not in self.runs]:
            raise ValueError(f"names the run '{unknown[0]}' in at_losses, which is not measured; allowed: {', '.join(self.runs)}")
        return self


class LinesConfig(Slices):
    """The loss along random directions under several normalisations (landscape, Figure 3 top and appendix A.1).

    Attributes:
        directions: random directions, each with every normalisation.
        normalise: "none" uses the Gaussian draws unscaled.
        test_examples: test images of the dashed curves, the first ones; none by default.
        rescale: factors by which the kernels before batch norm are multiplied, and their running statistics with them.
    """

    instrument: Literal["landscape_lines"]
    directions: Count
    normalise: list[Normalisation] = ["filter", "layer", "none"]
    test_examples: Annotated[int, Field(ge=0)] = 0
    rescale: list[Annotated[float, Field(gt=0)]] = []


class InterpolationConfig(OfRuns):
    """The loss between small-batch and large-batch minimisers; their weights during and after training (landscape, Figure 2).

    Attributes:
        runs: small and large batch in turn.
        examples, test_examples: training and test images, the first ones; all of them by default.
        points: of the line, from alpha = -0.5 to 1.5.
        bins: of the histograms of weights.
    """

    instrument: Literal["landscape_interpolation"]
    examples: Count | None = None
    test_examples: Count | None = None
    points: Annotated[int, Field(ge=5)]
    bins: Count = 81

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.runs) % 2:
            raise ValueError(f"has {len(self.runs)} runs; give small and large batch in turn")
        return self


class TrajectoryConfig(Scattered):
    """Training paths in the plane of their principal components and in random planes (landscape, Figures 8 and 9).

    Attributes:
        examples: training images on which the loss is evaluated, the first ones; all of them by default.
        points: along an axis of the plane, which is as wide as the path.
        cosines: pairs of random directions whose abs(cosine) is averaged.
    """

    instrument: Literal["landscape_trajectory"]
    examples: Count | None = None
    points: Annotated[int, Field(ge=5)]
    cosines: Annotated[int, Field(ge=2)] = 1000


class CurvatureConfig(Slices):
    """Smallest and largest Hessian eigenvalue on the plane of a surface (landscape, Figure 7).

    Attributes:
        tolerance: relative, of the eigenvalues' residuals.
        max_products: Hessian-vector products at a point, at most.
    """

    instrument: Literal["landscape_curvature"]
    tolerance: Annotated[float, Field(gt=0)] = 0.01
    max_products: Count = 60


LandscapeMeasurement = CurvatureConfig | InterpolationConfig | LinesConfig | SurfaceConfig | TrajectoryConfig
