"""What is trained: data set, model, optimizer and schedule of a run."""

import difflib
import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from replication import models
from replication.schema.base import Count, Strict


class MeanStd(Strict):
    """Per channel, in units of 1 = white: subtracted, and divided by."""

    mean: list[float]
    std: list[Annotated[float, Field(gt=0)]]


class DatasetConfig(Strict):
    """What a run is trained and measured on; see ``replication.data.assemble``."""

    name: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "digits", "grammar"]
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
    """``torch.optim`` settings by their usual names; betas of Adam are PyTorch's defaults.

    ``eps`` is Adam's; without it PyTorch's default of 1e-8 holds (Keras has 1e-7). ``fused`` makes each update one kernel per
    tensor: several times as fast for small networks, and other last bits.

    ``weight_decay_on`` "weights" spares biases and batch norm (tensors of one dimension); ``layers`` gives layers by name
    (a module's name, with everything inside it) their own learning rate or momentum.
    """

    name: Literal["sgd", "adam"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    weight_decay_on: Literal["all", "weights"] = "all"
    eps: Annotated[float, Field(gt=0)] | None = None
    fused: bool = False
    layers: dict[str, LayerSettings] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "adam" and (self.momentum or self.nesterov or any(entry.momentum is not None for entry in self.layers.values())):
            raise ValueError("sets momentum or nesterov for adam, which has neither; remove them or use name: sgd")
        if self.name == "sgd" and self.eps is not None:
            raise ValueError("sets eps for sgd, which has none; remove it or use name: adam")
        if self.nesterov and not self.momentum:
            raise ValueError("sets nesterov without momentum; give momentum above 0")
        return self


class Augmentation(Strict):
    """Random crop out of the image padded with ``crop`` black pixels on every side, and random horizontal flip."""

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False


class LossStops(Strict):
    """Losses of the whole training set (evaluation mode) at which weights are kept; the training ends at the last one.

    Attributes:
        values: in falling order.
        every: steps from one evaluation of the training set to the next; a loss counts as reached at the first evaluation at or
            below it.
    """

    values: list[Annotated[float, Field(gt=0)]]
    every: Count

    @model_validator(mode="after")
    def _falling(self) -> Self:
        if not self.values or any(later >= earlier for earlier, later in itertools.pairwise(self.values)):
            raise ValueError(f"has the losses {self.values}, which must be at least one and fall from each to the next; reorder them")
        return self


class RunConfig(Strict):
    """One training, repeated for ``seeds`` seeds 0, 1, ...

    Attributes:
        model_settings: what a reduced scale changes in the model (width, depth, ...), as its builder takes it.
        schedule: step -> factor of the learning rate; it holds from that step on, or is a point of a line where
            ``schedule_between`` is "linear".
        microbatch: examples that pass the network at once; gradients of a batch are accumulated over several.
        last_batch: what becomes of an epoch's remainder: LCA drops it, the landscape paper keeps it.
        freeze: layer (a module's name, with everything inside it) -> step from which it is frozen.
        precision: "bfloat16" is autocast of the forward pass; weights, optimizer and evaluation stay float32. A device without
            instructions for it computes in float32, and the record says so.
        compile: the training's forward and backward pass go through torch.compile; pays after minutes, not for short runs.
        stop_when_non_finite: end a diverged run at once instead of at its last step.
        stop_at_losses: training losses whose weights are kept, and the last of which ends the training before ``steps``.
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
    stop_at_losses: LossStops | None = None
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
