"""Measurements of the SVCCA and PWCCA papers."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from replication.schema.base import Count, Name
from replication.schema.measurements import MeasurementConfig, OfRun, OfRuns, Untrained
from replication.schema.runs import RunConfig


class FourierConfig(Untrained):
    """Covariances and coefficients of random circular convolutional networks in the Fourier basis (SVCCA, theorems 1 and 2).

    Attributes:
        size: height and width of the images.
        base_images: number of images of which all translations are taken.
        images: number of natural-looking images, without translations.
    """

    instrument: Literal["svcca_fourier"]
    size: Annotated[int, Field(ge=2)] = 6
    base_images: Count = 200
    images: Count = 2000


class InvarianceConfig(Untrained):
    """What CCA does not see, and what it sees in noise (SVCCA, appendices 1 and B; the official tutorial).

    Attributes:
        examples: number of examples of the transformed neurons.
        noise_neurons: neurons of two independent layers.
        noise_examples: numbers of examples at which these layers are compared.
    """

    instrument: Literal["svcca_invariance"]
    examples: Count = 10_000
    noise_neurons: Annotated[int, Field(ge=2)] = 100
    noise_examples: list[Count]


class NoiseConfig(Untrained):
    """Two layers that share some of their directions, while the rest are noise (PWCCA, figure 2 and A.4).

    Attributes:
        neurons: of each layer.
        examples: number of examples.
        shared: numbers of shared directions.
    """

    instrument: Literal["pwcca_noise"]
    neurons: Count = 200
    examples: Count = 2000
    shared: list[Count]


class ToyConfig(Untrained):
    """Pairs of toy regression networks that differ in their seed only (SVCCA, figures 1 and 3).

    Attributes:
        hidden: widths of the hidden layers; the last one is compared.
        steps, batch_size, lr: of the training with Adam.
        examples: number of equidistant input points at which layers are compared.
        directions: numbers of directions on which the layer is projected.
    """

    instrument: Literal["svcca_toy"]
    hidden: list[Count] = [200, 200, 200, 200]
    steps: Count = 1500
    batch_size: Count = 256
    lr: Annotated[float, Field(gt=0)] = 1e-3
    examples: Annotated[int, Field(ge=100)] = 20_000
    directions: list[Count] = [2, 6, 15, 30]


class PairOfSeeds(MeasurementConfig):
    """A measurement of two seeds of a run. Every seed of the measurement has a pair of its own."""

    run: Name

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return ((self.run, 2 * seed), (self.run, 2 * seed + 1))

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return runs[self.run].seeds // 2


class DynamicsConfig(OfRuns):
    """Layers during training against the same networks at the end, and against each other (SVCCA, figures 4, 6, 7 and appendix 3).

    Attributes:
        runs: the convnet and the residual network.
        examples: number of test images for spatial means, at most.
        folded_examples: number of test images whose positions count as examples, and of images for Fourier CCA, at most.
        matrices: kept steps at which all pairs of layers are compared, in per cent of the training.
    """

    instrument: Literal["svcca_dynamics"]
    examples: Count
    folded_examples: Count
    matrices: list[Annotated[int, Field(ge=0, le=100)]] = [0, 35, 75, 100]


class PairConfig(PairOfSeeds):
    """Two convnets: similarity of their layers, and accuracy of one after projections (SVCCA, figure 2, appendices 4 and 5).

    Attributes:
        run: the two networks' run.
        examples: number of training images on which directions are fitted, at most.
        test_examples: number of test images, at most.
        directions: numbers of directions and of neurons in the accuracy curves.
        double_directions, double_neurons: numbers of top directions, and of neurons on which these are projected further.
        fractions: of each layer's size that the compression keeps.
    """

    instrument: Literal["svcca_pair"]
    examples: Count
    test_examples: Count
    directions: list[Count]
    double_directions: list[Count]
    double_neurons: list[Count]
    fractions: list[Annotated[float, Field(gt=0, le=1)]]


class FreezeConfig(MeasurementConfig):
    """What Freeze Training saves: multiply-accumulates of every step, counted on one seed because all seeds cost the same."""

    instrument: Literal["svcca_freeze"]
    runs: list[Name]

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return tuple((run, seed) for run in self.runs)

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return 1


class GroupsConfig(MeasurementConfig):
    """Distances within and between two groups of two networks; seeds of the measurement share no network (PWCCA, figure 3).

    Attributes:
        generalising, memorising: runs on true and on permuted labels.
        examples: number of training images and of test images, at most.
    """

    instrument: Literal["pwcca_groups"]
    generalising: Name
    memorising: Name
    examples: Count

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return tuple((run, 2 * seed + number) for run in (self.generalising, self.memorising) for number in range(2))

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return min(runs[self.generalising].seeds, runs[self.memorising].seeds) // 2


class WidthConfig(MeasurementConfig):
    """Distances between two networks of one width, for several widths; seeds of the measurement share no network (PWCCA, figure 4).

    Attributes:
        runs: one for each width.
        filters: number of filters of the last convolution that are compared.
        draws: number of random choices of these filters; the distance is the mean over them.
        examples: number of test images and of training images, at most.
    """

    instrument: Literal["pwcca_width"]
    runs: list[Name]
    filters: Count
    draws: Count
    examples: Count

    def sources(self, seed: int) -> tuple[tuple[str, int], ...]:  # noqa: D102 - as in the base class
        return tuple((run, 2 * seed + number) for run in self.runs for number in range(2))

    def n_seeds(self, runs: Mapping[str, RunConfig]) -> int:  # noqa: D102 - as in the base class
        return min(runs[run].seeds for run in self.runs) // 2


class LstmConfig(OfRun):
    """LSTM layers' states during training against those at the end (SVCCA, appendix 6; PWCCA, figure 6).

    Attributes:
        examples: number of test windows, at most.
    """

    instrument: Literal["svcca_lstm"]
    examples: Count


_Trained = DynamicsConfig | FreezeConfig | GroupsConfig | LstmConfig | PairConfig | WidthConfig
SvccaMeasurement = _Trained | FourierConfig | InvarianceConfig | NoiseConfig | ToyConfig
