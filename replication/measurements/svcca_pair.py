"""Two seeds of the convnet: their layers against each other, and what one can do on few directions (SVCCA, figure 2, appendices 4, 5)."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.measurements.svcca_rows import LOGITS, row_outputs
from replication.schema.svcca import PairConfig
from replication.svcca.canonical import Directions
from replication.svcca.measures import svcca
from replication.svcca.reductions import Reduction, completed, double_projection, largest_neurons, on_directions, on_neurons, only_neurons
from replication.svcca.table import similarity_matrix
from replication.training.trained_run import TrainedRun

PROJECTED = ("p2", "fc1", "fc2")
COMPRESSED = ("p2", "fc1", "bn3", "fc2", "bn4")
_DRAWS = 3  # of random neurons


def measure(config: PairConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Fitted on training images, accuracies on test images."""
    models = [run.model() for run in runs]
    data = runs[0].experiment
    test = data.test.images[: config.test_examples], data.test.labels[: config.test_examples]
    tables = {"matrix": two_seeds(models, test[0], seed)}
    fitted = [flat_outputs(model, data.train.images[: config.examples]) for model in models]
    head = Head(models[0], *test)
    progress(1, 3)
    tables |= {"projections": projections(config, fitted, head, seed), "double": double(config, fitted, head)}
    progress(2, 3)
    tables["compression"] = compression(config, fitted, head, seed)
    sizes = (fitted[0][row].shape[1] for row in PROJECTED)
    tables["full"] = pd.DataFrame([(head.accuracy({}), *sizes)], columns=["accuracy", *PROJECTED])
    return pack(tables)


def tables(config: PairConfig, parts: Sequence[Arrays]) -> Tables:
    """``matrix``, ``projections``, ``double``, ``compression`` and ``full``."""
    return unpack(parts)


def two_seeds(models: Sequence[nn.Module], images: Tensor, seed: int) -> pd.DataFrame:
    """SVCCA of every layer of one network with every layer of the other; the control has the second one's examples shuffled."""
    first, second = (row_outputs(model, images) for model in models)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    control = similarity_matrix(first, {row: values[order] for row, values in second.items()})
    return similarity_matrix(first, second).assign(shuffled=control["similarity"])


def flat_outputs(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Rows that are projected, every value of a feature map as a neuron of its own."""
    outputs = row_outputs(model, images, rows=(*COMPRESSED, LOGITS), view=None)
    return {row: values.flatten(1).double() for row, values in outputs.items()}


class Head:
    """A convnet from p2 on, whose layers can be reduced on the way; accuracies on fixed examples."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.start = row_outputs(model, images, rows=["p2"], view=None)["p2"].flatten(1)
        children = dict(model.named_children())
        names = list(children)
        # a row with a ReLU of its own is reduced after it
        ends = {row: f"{row}_relu" if f"{row}_relu" in names else row for row in COMPRESSED}
        self.row_of = {module: row for row, module in ends.items()}
        self.modules = {name: children[name] for name in names[names.index("flatten") + 1 :]}
        self.labels = labels

    @torch.no_grad()
    def accuracy(self, reductions: Mapping[str, Reduction]) -> float:
        """Accuracy with each named row replaced by its reduction."""
        values = reductions["p2"](self.start) if "p2" in reductions else self.start
        for name, module in self.modules.items():
            values = module(values)
            if self.row_of.get(name) in reductions:
                values = reductions[self.row_of[name]](values)
        return (values.argmax(1) == self.labels).double().mean().item()


def projections(config: PairConfig, fitted: Sequence[Mapping[str, Tensor]], head: Head, seed: int) -> pd.DataFrame:
    """Accuracy with one layer reduced to k SVCCA directions, to k neurons with the others at 0, or regressed on k neurons."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for row in PROJECTED:
        x, y = (layers[row] for layers in fitted)
        directions = svcca(x, y).directions_x
        largest = largest_neurons(x)
        draws = [torch.randperm(x.shape[1], generator=generator) for _ in range(_DRAWS)]
        for k in (k for k in config.directions if k <= x.shape[1]):
            reductions: list[tuple[str, Reduction]] = [("svcca", on_directions(directions, k))]
            for name, orders in (("largest neurons", [largest]), ("random neurons", draws)):
                reductions += [(f"{name}, others 0", only_neurons(order[:k])) for order in orders]
                reductions += [(f"{name}, least squares", on_neurons(x, order[:k])) for order in orders]
            rows += [(row, name, k, head.accuracy({row: reduction})) for name, reduction in reductions]
    table = pd.DataFrame(rows, columns=["row", "projection", "k", "accuracy"])
    return table.groupby(["row", "projection", "k"], sort=False)["accuracy"].mean().reset_index()


def double(config: PairConfig, fitted: Sequence[Mapping[str, Tensor]], head: Head) -> pd.DataFrame:
    """Accuracy with one layer reduced to its top directions, these further projected on the neurons that matter most to them."""
    rows = []
    for row in ("p2", "fc1"):
        x, y = (layers[row] for layers in fitted)
        directions = svcca(x, y).directions_x
        for k in config.double_directions:
            rows.append((row, k, 0, head.accuracy({row: on_directions(directions, k)})))
            for m in (*config.double_neurons, x.shape[1]):
                if m <= x.shape[1]:
                    rows.append((row, k, m, head.accuracy({row: double_projection(x, directions, k, m)})))
    return pd.DataFrame(rows, columns=["row", "directions", "neurons", "accuracy"])


def compression(config: PairConfig, fitted: Sequence[Mapping[str, Tensor]], head: Head, seed: int) -> pd.DataFrame:
    """Accuracy with the top layers reduced one after the other, each to a fraction of its size."""
    rows = []
    for method, reducers in compressors(fitted, seed):
        for fraction in config.fractions:
            reductions: dict[str, Reduction] = {}
            for number, row in enumerate(reversed(COMPRESSED), start=1):
                k = max(1, round(fraction * fitted[0][row].shape[1]))
                reductions[row] = reducers[row](k)
                rows.append((method, fraction, number, row, head.accuracy(reductions)))
    return pd.DataFrame(rows, columns=["method", "fraction", "layers", "lowest_row", "accuracy"])


def compressors(fitted: Sequence[Mapping[str, Tensor]], seed: int) -> Iterator[tuple[str, Mapping[str, "Compressor"]]]:
    """Ways to choose the directions of every row: against the other network, against the logits, and (the control) random neurons."""
    first, second = fitted
    yield "two networks", {row: Compressor(svcca(first[row], second[row]).directions_x) for row in COMPRESSED}
    yield "logits", {row: Compressor(completed(svcca(first[row], first[LOGITS]))) for row in COMPRESSED}
    generator = torch.Generator().manual_seed(seed)
    yield "random neurons", {row: Compressor(torch.randperm(first[row].shape[1], generator=generator)) for row in COMPRESSED}


class Compressor:
    """k -> reduction of one layer to k directions, or to the first k of the given neurons."""

    def __init__(self, directions: Directions | Tensor) -> None:
        self.directions = directions

    def __call__(self, k: int) -> Reduction:
        """The reduction to k dimensions."""
        if isinstance(self.directions, Tensor):
            return only_neurons(self.directions[:k])
        return on_directions(self.directions, k)
