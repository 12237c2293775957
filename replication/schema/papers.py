"""One file of ``paper_configs``: a paper, its runs, measurements and figures."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from replication.schema.base import Name, Strict
from replication.schema.claims import Claim
from replication.schema.four_views import FourViewsConfig
from replication.schema.landscape import LandscapeMeasurement
from replication.schema.lca import LcaMeasurement
from replication.schema.runs import RunConfig
from replication.schema.stiffness import StiffnessConfig, StiffnessV1Config
from replication.schema.svcca import SvccaMeasurement

Measurement = FourViewsConfig | LandscapeMeasurement | LcaMeasurement | StiffnessConfig | StiffnessV1Config | SvccaMeasurement


class FigureConfig(Strict):
    """One published figure: the measurements (and the logs of runs) it is drawn from and the claims read off it."""

    reproduces: str
    caption: str
    measurements: list[Name] = []
    runs: list[Name] = []
    claims: list[Claim] = []

    @model_validator(mode="after")
    def _drawn_from_something(self) -> Self:
        if not self.measurements and not self.runs:
            raise ValueError("names no measurements and no runs; name at least one")
        return self


class Paper(Strict):
    """Bibliographic identity of a paper; ``arxiv`` is empty for figures of our own, which no paper has."""

    title: str
    authors: str
    year: int
    arxiv: str = ""


class PaperConfig(Strict):
    """One file of paper_configs at one scale."""

    paper: Paper
    runs: dict[Name, RunConfig]
    measurements: dict[Name, Annotated[Measurement, Field(discriminator="instrument")]]
    figures: dict[Name, FigureConfig]

    @model_validator(mode="after")
    def _references(self) -> Self:
        for name, measurement in self.measurements.items():
            for run in measurement.run_names:
                if run not in self.runs:
                    raise ValueError(f"has measurement {name} of the unknown run '{run}'; allowed: {', '.join(self.runs)}")
                if measurement.needs_every_step and self.runs[run].keep != "every_step":
                    raise ValueError(f"has measurement {name}, which needs run {run} to say keep: every_step")
            if name in self.runs:
                raise ValueError(f"has a run and a measurement of the same name {name}; rename one")
        for name, figure in self.figures.items():
            for what, wanted, known in (
                ("measurement", figure.measurements, list(self.measurements)),
                ("run", figure.runs, list(self.runs)),
            ):
                if unknown := [each for each in wanted if each not in known]:
                    raise ValueError(f"has figure {name} of the unknown {what} '{unknown[0]}'; allowed: {', '.join(known)}")
        return self
