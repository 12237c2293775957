"""What experiments get: prepared data sets, splits, random labels and normalised images.

Images are [n, channels, height, width], labels int64 [n]. Randomness comes from explicit seeds through ``replication.seeds.numpy_stream``.
"""

import functools
import json
import socket
import urllib.parse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch.nn.functional import interpolate

from replication.data.sources import reading
from replication.data.sources.reading import Dataset, Images, Origin
from replication.errors import ReplicationError
from replication.files.atomic import atomic, canonical_json
from replication.files.provenance import collect_provenance, provenance_file, read_provenance, write_provenance
from replication.seeds import numpy_stream

Split = Literal["random", "stratified"]
_PerChannel = Sequence[float] | torch.Tensor
Normalisation = Literal["unit", "standardise"] | tuple[_PerChannel, _PerChannel]


@dataclass(frozen=True, eq=False)
class Examples:
    """Images: float32 [n, channels, height, width], contiguous; labels: int64 [n]; both on one device."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, eq=False)
class Experiment:
    """The three parts an experiment uses, the number of classes, and what a black pixel became (float32 [channels, 1, 1])."""

    train: Examples
    validation: Examples
    test: Examples
    classes: int
    black: torch.Tensor


def prepare(name: str, path: Path) -> None:
    """Read a data set from its source and write it as one safetensors file with its provenance beside it (``<path>.provenance.json``).

    Raises:
        ReplicationError: the data set cannot be found or downloaded, it is damaged, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     prepare("digits", Path(folder, "digits.safetensors"))
        ...     sorted(path.name for path in Path(folder).iterdir())
        ['digits.safetensors', 'digits.safetensors.provenance.json']
    """
    dataset = reading.read(name)
    tensors = {
        f"{split}_{part}": tensor
        for split, images in (("train", dataset.train), ("test", dataset.test))
        for part, tensor in (("pixels", images.pixels), ("labels", images.labels))
    }
    origin = asdict(dataset.origin)
    # The folder stays out of the file, so that the same data set gives the same bytes wherever it was found.
    about = {"name": name, "class_names": dataset.class_names, "origin": {key: origin[key] for key in origin if key != "folder"}}
    path = Path(path)
    with atomic(path) as temporary:
        # Not save_file: it hides the system's reason (a full disk) and writes under a temporary name of its own.
        temporary.write_bytes(save(tensors, metadata={"dataset": canonical_json(about)}))
    write_provenance(provenance_file(path), collect_provenance(kind="data", name=name, origin=origin), [path])


def load(path: Path) -> Dataset:
    """Read a prepared data set back.

    Raises:
        ReplicationError: the file or its provenance is missing, truncated, changed, or no prepared data set.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     prepare("digits", Path(folder, "a.safetensors"))
        ...     load(Path(folder, "a.safetensors")).origin == reading.read("digits").origin
        True
    """
    path = Path(path)
    provenance = read_provenance(provenance_file(path))
    try:
        if path.name not in provenance["files"]:
            raise KeyError(path.name)
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["dataset"])
            train, test = (Images(file.get_tensor(f"{s}_pixels"), file.get_tensor(f"{s}_labels")) for s in ("train", "test"))
        origin = Origin(**about["origin"], folder=provenance["origin"]["folder"])
        return Dataset(about["name"], train, test, tuple(about["class_names"]), origin)
    except (SafetensorError, OSError, ValueError, TypeError, LookupError) as error:
        raise ReplicationError(f"{path} is not a prepared data set ({error!r}); delete it and its provenance and run again.") from None


def available(name: str) -> bool:
    """Whether a data set is in a search folder or, failing that, its download host answers within two seconds.

    Only a wrong name or a wrong REPLICATION_DATA raises an error (ReplicationError), because both would otherwise go unnoticed.

    Example:
        >>> available("digits")
        True
    """
    if reading.find(name) or name in reading.BUILT_IN:
        return True
    if reading.offline():
        return False
    addresses = {urllib.parse.urlsplit(url) for _, _, urls in reading.remote_files(name) for url in urls}
    hosts = {(address.hostname or "", address.port or (443 if address.scheme == "https" else 80)) for address in addresses}
    return any(_answers(host, port) for host, port in sorted(hosts))


@functools.cache
def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def split(labels: torch.Tensor, count: int, *, seed: int, method: Split = "random") -> tuple[torch.Tensor, torch.Tensor]:
    """Training and validation indices (int64, ascending): ``count`` validation examples, the rest for training.

    "random" is the split of Lan et al. 2019 (LCA; numpy seed 0, 5,000 validation indices drawn without replacement, the
    rest in original order), read as RandomState(seed).choice(n, count, replace=False). "stratified" keeps the class
    proportions as ``subset`` does.

    Raises:
        ReplicationError: ``count`` is negative or leaves no training example; unknown method; seed out of range.

    Example:
        >>> split(torch.arange(6), 2, seed=0)
        (tensor([0, 1, 3, 4]), tensor([2, 5]))
    """
    examples = len(labels)
    if not 0 <= count < examples:
        raise ReplicationError(f"validation is {count}; allowed are 0 to {examples - 1} of these {examples} examples: change it.")
    if method == "random":
        validation = torch.from_numpy(np.sort(numpy_stream(seed).choice(examples, count, replace=False)))
    elif method == "stratified":
        validation = subset(labels, count, seed=seed)
    else:
        raise ReplicationError(f"Unknown split method {method!r}; allowed are 'random' and 'stratified': change it.")
    chosen = torch.zeros(examples, dtype=torch.bool)
    chosen[validation] = True
    return torch.nonzero(~chosen)[:, 0], validation


_split = split  # ``assemble`` has an argument of this name


def subset(labels: torch.Tensor, count: int, *, seed: int) -> torch.Tensor:
    """Indices (int64, ascending) of ``count`` examples with the class proportions of ``labels``.

    Each class gets its proportional share rounded down; what is left goes to the largest remainders, lower classes first.

    Raises:
        ReplicationError: ``count`` is negative or more than there are; seed out of range.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> labels[subset(labels, 3, seed=0)]
        tensor([0, 0, 1])
    """
    examples, classes = len(labels), labels.numpy()
    if not 0 <= count <= examples:
        raise ReplicationError(f"examples is {count}; allowed are 0 to {examples}, as many as there are: change it.")
    if not examples:
        return torch.zeros(0, dtype=torch.int64)
    sizes = np.bincount(classes)
    shares, remainders = np.divmod(sizes * count, examples)
    shares[np.argsort(-remainders, kind="stable")[: count - shares.sum()]] += 1
    random = numpy_stream(seed)
    parts = [random.choice(np.flatnonzero(classes == c), shares[c], replace=False) for c in np.flatnonzero(sizes)]
    return torch.from_numpy(np.sort(np.concatenate(parts)))


def random_labels(labels: torch.Tensor, *, seed: int, fraction: float = 1.0) -> torch.Tensor:
    """Labels with those of a random ``fraction`` of the examples permuted among themselves, so class counts are kept.

    A permuted label equals the true one by chance in about one of (number of classes) examples.

    Raises:
        ReplicationError: ``fraction`` is outside 0..1; seed out of range.

    Example:
        >>> random_labels(torch.tensor([0, 1, 2, 3]), seed=0)
        tensor([2, 3, 1, 0])
    """
    if not 0 <= fraction <= 1:
        raise ReplicationError(f"label_noise is {fraction}; allowed are 0 to 1 (a fraction of the training examples): change it.")
    chosen = numpy_stream(seed).permutation(len(labels))[: round(fraction * len(labels))]
    noisy = labels.clone()
    noisy[torch.from_numpy(np.sort(chosen))] = labels[torch.from_numpy(chosen)]
    return noisy


def normalise(pixels: torch.Tensor, how: Normalisation = "unit", *, reference: torch.Tensor | None = None) -> torch.Tensor:
    """Images as float32 from uint8 pixels, both [n, channels, height, width].

    Args:
        how: "unit" divides by 255; "standardise" then subtracts the mean of each channel of ``reference`` (uint8, by
            default ``pixels``) and divides by its standard deviation over all examples and positions; a pair (mean, std)
            gives the two per channel, in units of 1 = white.

    Raises:
        ReplicationError: unknown ``how``, a pair of wrong length, or a standard deviation that is not positive.

    Example:
        >>> normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), ([0.5], [0.25]))
        tensor([[[[-2.,  2.]]]])
    """
    images = pixels.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(255)
    if how == "unit":
        return images
    if how == "standardise":
        mean, std = _statistics(pixels if reference is None else reference)
    elif isinstance(how, str) or len(how) != 2:
        raise ReplicationError(f"normalisation is {how!r}; allowed are 'unit', 'standardise' and a (mean, std) pair: change it.")
    else:
        mean, std = (torch.as_tensor(values, dtype=torch.float64) for values in how)
    channels = pixels.shape[1]
    if mean.shape != (channels,) or std.shape != (channels,) or not (std > 0).all():
        found = f"normalisation has mean {mean.tolist()} and std {std.tolist()}"
        raise ReplicationError(f"{found}; needed are {channels} of each and every std above 0: change it.")
    return images.sub_(mean.float()[:, None, None]).div_(std.float()[:, None, None])


def _statistics(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (float64) per channel, from the counts of the 256 grey levels: exact in little memory."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in pixels.unbind(1)]).double()
    share = counts / counts.sum(1, keepdim=True)
    mean = share @ levels
    return mean, (share * (levels - mean[:, None]).square()).sum(1).sqrt()


def resize(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Pixels (uint8 [n, channels, height, width]) at ``size`` x ``size``, bilinear with antialiasing; the same tensor if they have it.

    Raises:
        ReplicationError: ``size`` is below 1.

    Example:
        >>> resize(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), 4).shape
        torch.Size([2, 1, 4, 4])
    """
    if size < 1:
        raise ReplicationError(f"image_size is {size}; allowed are whole numbers from 1: change it.")
    if pixels.shape[2:] == (size, size):
        return pixels
    if not len(pixels):
        return pixels.new_empty(0, pixels.shape[1], size, size)
    parts = (interpolate(part.float(), (size, size), mode="bilinear", antialias=True) for part in pixels.split(4096))
    return torch.cat([part.round_().clamp_(0, 255).to(torch.uint8) for part in parts])


def assemble(
    dataset: Dataset,
    *,
    validation: int = 0,
    split_seed: int = 0,
    split: Split = "random",
    examples: int | None = None,
    subset_seed: int = 0,
    image_size: int | None = None,
    channels: int | None = None,
    normalisation: Normalisation = "unit",
    label_noise: float = 0.0,
    label_seed: int = 0,
    device: str | torch.device = "cpu",
) -> Experiment:
    """The parts of one experiment: validation split, then training subset, random training labels, size, normalisation.

    Args:
        validation: number of examples taken from the training part by ``split``.
        examples: number of training examples kept after that (class-balanced); None keeps all.
        image_size: height and width in pixels; None keeps those of the data set.
        channels: gray images are repeated to this number; None keeps those of the data set.
        normalisation: as in ``normalise``, with statistics from the training part alone.
        label_noise: fraction of the training labels that are permuted.

    Raises:
        ReplicationError: a number is out of its range or an option is unknown.

    Example:
        >>> experiment = assemble(reading.read("digits"), validation=437, examples=100)
        >>> [len(part.labels) for part in (experiment.train, experiment.validation, experiment.test)]
        [100, 437, 360]
    """
    training, held_out = _split(dataset.train.labels, validation, seed=split_seed, method=split)
    if examples is not None:
        if examples < 1:
            raise ReplicationError(f"examples is {examples}; allowed are 1 to {len(training)}: change it.")
        training = training[subset(dataset.train.labels[training], examples, seed=subset_seed)]
    train_labels = random_labels(dataset.train.labels[training], seed=label_seed, fraction=label_noise)
    labels = (train_labels, dataset.train.labels[held_out], dataset.test.labels)
    parts = (dataset.train.pixels[training], dataset.train.pixels[held_out], dataset.test.pixels)
    pixels = [_fit(part, image_size, channels) for part in parts]
    how = _statistics(pixels[0]) if normalisation == "standardise" else normalisation
    images = [normalise(part, how) for part in pixels]
    train, held_out_part, test = (Examples(x.to(device), y.to(device)) for x, y in zip(images, labels, strict=True))
    black = normalise(pixels[0].new_zeros(1, pixels[0].shape[1], 1, 1), how)[0].to(device)
    return Experiment(train, held_out_part, test, len(dataset.class_names), black)


def _fit(pixels: torch.Tensor, size: int | None, channels: int | None) -> torch.Tensor:
    found = pixels.shape[1]
    if channels not in (None, found) and (found != 1 or channels < 1):
        raise ReplicationError(f"channels is {channels}; allowed is {found}, or any number for gray images: change it.")
    sized = pixels if size is None else resize(pixels, size)
    return sized if channels is None else sized.expand(-1, channels, -1, -1)
