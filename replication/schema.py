"""The language of ``paper_configs/*.yaml`` at one scale, as pydantic models: every key, its type and what is allowed.

Unknown keys are refused, values are not converted, and what contradicts itself is an error.
"""

import difflib
import reprlib
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from replication import models

Scale = Literal["smoke", "reduced", "full"]
SCALES: tuple[Scale, ...] = get_args(Scale)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
ClaimId = Annotated[str, Field(pattern=r"^[A-Z]+-[A-Za-z0-9-]+$")]
Count = Annotated[int, Field(ge=1)]
Trust = Literal["confirmed", "secondary", "recalled", "none"]
Basis = Literal["published", "published_spread", "rounding", "digitisation", "prediction_interval", "analytic", "pilot", "judgement"]
Kind = Literal["value", "difference", "ordering", "relation", "array", "identity"]


class Strict(BaseModel):
    """A mapping of the configuration: unknown keys are refused with the allowed ones named."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"is {reprlib.repr(value)}, but a mapping with the keys {', '.join(cls.model_fields)} is needed")
        for key in value:
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, 1)
                hint = f" (did you mean '{near[0]}'?)" if near else ""
                raise ValueError(f"has the unknown key '{key}'{hint}; allowed: {', '.join(cls.model_fields)}")
        return value


class MeanStd(Strict):
    """Per channel, in units of 1 = white: taken off and divided by."""

    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]


class DatasetConfig(Strict):
    """What a run is trained and measured on; see ``replication.data.assemble``."""

    name: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "digits"]
    validation: Annotated[int, Field(ge=0)] = 0
    split: Literal["random", "stratified"] = "random"
    split_seed: int = 0
    examples: Count | None = None
    subset_seed: int = 0
    image_size: Count | None = None
    normalisation: Literal["unit", "standardise"] | MeanStd = "unit"
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    label_seed: int = 0


class LayerSettings(Strict):
    """What the optimizer does differently in one layer."""

    lr: Annotated[float, Field(ge=0)] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None


class OptimizerConfig(Strict):
    """``torch.optim`` settings by their usual names; betas and epsilon of Adam are PyTorch's defaults.

    ``weight_decay_on`` "weights" spares biases and batch norm (tensors of one dimension); ``layers`` gives layers by name
    (a module's name, with everything inside it) their own learning rate or momentum.
    """

    name: Literal["sgd", "adam"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    weight_decay_on: Literal["all", "weights"] = "all"
    layers: dict[str, LayerSettings] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "adam" and (self.momentum or self.nesterov or any(entry.momentum is not None for entry in self.layers.values())):
            raise ValueError("sets momentum or nesterov for adam, which has neither; remove them or use name: sgd")
        if self.nesterov and not self.momentum:
            raise ValueError("sets nesterov without momentum; give momentum above 0")
        return self


class Augmentation(Strict):
    """Random crop out of the image padded with ``crop`` black pixels on every side, and random horizontal flip."""

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False


class RunConfig(Strict):
    """One training, repeated for ``seeds`` seeds 0, 1, ...

    Attributes:
        model_settings: what a reduced scale changes in the model (width, depth, ...), as its builder takes it.
        schedule: step -> factor of the learning rate; it holds from that step on, or is a point of a line where
            ``schedule_between`` is "linear".
        microbatch: examples that pass the network at once; gradients of a batch are accumulated over several.
        last_batch: what becomes of an epoch's remainder: LCA drops it, the landscape paper keeps it.
        freeze: layer (a module's name, with everything inside it) -> step from which it is frozen.
        precision: "bfloat16" is autocast of the forward pass; weights, optimizer and evaluation stay float32.
        compile: the training's forward and backward pass go through torch.compile; pays after minutes, not for short runs.
        stop_when_non_finite: end a diverged run at once instead of at its last step.
        evaluations: how often validation and test set are evaluated, evenly spread, the last time at the end.
    """

    dataset: DatasetConfig
    model: str
    model_settings: dict[str, int | float | bool | list[int]] = {}
    optimizer: OptimizerConfig
    schedule: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=0)]] = {}
    schedule_between: Literal["step", "linear"] = "step"
    augment: Augmentation = Augmentation()
    batch_size: Count
    microbatch: Count | None = None
    last_batch: Literal["drop", "keep"] = "drop"
    freeze: dict[str, Annotated[int, Field(ge=0)]] = {}
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    stop_when_non_finite: bool = False
    steps: Count
    seeds: Count
    keep: Literal["every_step", "every_epoch"] | list[Annotated[int, Field(ge=0)]] = []
    evaluations: Count = 10

    @model_validator(mode="after")
    def _known_model(self) -> Self:
        if self.model not in models.names():
            near = difflib.get_close_matches(self.model, models.names(), 1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError(f"names the unknown model '{self.model}'{hint}; allowed: {', '.join(models.names())}")
        allowed = models.entry_of(self.model).overrides
        if unknown := [key for key in self.model_settings if key not in allowed]:
            raise ValueError(f"sets '{unknown[0]}' in model_settings, which {self.model} does not have; allowed: {', '.join(allowed)}")
        if late := [step for step in self.keep if isinstance(step, int) and step > self.steps]:
            raise ValueError(f"keeps the weights of step {late[0]}, after the last step {self.steps}")
        return self


class LcaConfig(Strict):
    """Loss change allocation along a run whose weights were kept after every step; see ``replication.lca.along``."""

    instrument: Literal["lca"]
    run: Name
    spans: Count = 1
    max_error: Annotated[float, Field(gt=0)] = 1e-3
    max_intervals: Literal[2, 4, 8, 16, 32, 64] = 32
    batch_norm: Literal["running", "batch"] = "running"
    chunk: Count | None = None

    @property
    def parts(self) -> int:
        """Into how many jobs one seed is scattered."""
        return self.spans


class SampledLcaConfig(Strict):
    """Sums over layers from a random subset per step; see ``replication.lca_sampled.along``."""

    instrument: Literal["lca_sampled"]
    run: Name
    spans: Count = 1
    examples: Count
    groups: Annotated[int, Field(ge=2)] = 10
    seed: int = 0
    fresh: bool = True
    intervals: Literal[2, 4, 8, 16] = 2
    batch_norm: Literal["running", "batch"] = "running"
    chunk: Count | None = None

    @property
    def parts(self) -> int:
        """Into how many jobs one seed is scattered."""
        return self.spans


Measurement = LcaConfig | SampledLcaConfig


class Published(Strict):
    """What the paper says; ``trust`` is how well that is known, ``none`` where it gives no number."""

    value: str
    where: str
    trust: Trust


class Expectation(Strict):
    """The acceptance region of a claim at one scale, and where it comes from."""

    rule: Literal["below", "above", "between"]
    bound: float | None = None
    low: float | None = None
    high: float | None = None
    basis: Basis
    note: str = ""
    speaks_for: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        interval = self.low is not None and self.high is not None and self.low < self.high and self.bound is None
        one_sided = self.bound is not None and self.low is None and self.high is None
        if self.rule == "between" and not interval:
            raise ValueError("has rule between, which needs low < high and no bound")
        if self.rule != "between" and not one_sided:
            raise ValueError(f"has rule {self.rule}, which needs bound and neither low nor high")
        if self.basis in ("judgement", "pilot") and not self.note:
            raise ValueError(f"has basis {self.basis} without a note; say in one sentence where the bound comes from")
        return self


class Control(Strict):
    """A quantity computed the same way with the claimed mechanism broken; the claim must fall on it."""

    quantity: Name
    breaks: str


class Discrepancy(Strict):
    """A claim that is known not to reproduce: evidence and a hypothesis; then success is the surprise."""

    evidence: str
    hypothesis: str


class Claim(Strict):
    """A published statement, the quantity that measures it (one estimate per seed) and what is expected of it."""

    id: ClaimId
    statement: str
    kind: Kind
    published: Published
    quantity: Name
    unit: str = ""
    control: Control
    ci: bool = False
    expect: Expectation | None = None
    not_evaluated: str = ""
    discrepancy: Discrepancy | None = None
    withdrawn: str = ""

    @model_validator(mode="after")
    def _honest(self, info: ValidationInfo) -> Self:
        speechless = (info.context or {}).get("scale") == "smoke"
        if speechless and self.expect is not None:
            raise ValueError("has an expectation at scale smoke, which speaks for no claim; give it for reduced or full")
        if self.expect is None and not self.not_evaluated and not self.withdrawn and not speechless:
            raise ValueError("has no expectation at this scale; add one under expect or say why under not_evaluated")
        if self.expect is not None and self.expect.basis in ("published", "published_spread") and self.published.trust == "recalled":
            raise ValueError("rests its acceptance region on a recalled value, which gates nothing; use another basis")
        return self


class FigureConfig(Strict):
    """One published figure: the measurements it is drawn from and the claims read off it."""

    reproduces: str
    caption: str
    measurements: Annotated[list[Name], Field(min_length=1)]
    claims: list[Claim] = []


class Paper(Strict):
    """Bibliographic identity of a paper."""

    title: str
    authors: str
    year: int
    arxiv: str


class PaperConfig(Strict):
    """One file of paper_configs at one scale."""

    paper: Paper
    runs: dict[Name, RunConfig]
    measurements: dict[Name, Annotated[Measurement, Field(discriminator="instrument")]]
    figures: dict[Name, FigureConfig]

    @model_validator(mode="after")
    def _references(self) -> Self:
        for name, measurement in self.measurements.items():
            run = self.runs.get(measurement.run)
            if run is None:
                raise ValueError(f"has measurement {name} of the unknown run '{measurement.run}'; allowed: {', '.join(self.runs)}")
            if run.keep != "every_step":
                raise ValueError(f"has measurement {name}, which needs run {measurement.run} to say keep: every_step")
        for name, figure in self.figures.items():
            for needed in figure.measurements:
                if needed not in self.measurements:
                    raise ValueError(f"has figure {name} of the unknown measurement '{needed}'; allowed: {', '.join(self.measurements)}")
        return self
