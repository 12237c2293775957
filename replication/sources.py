"""Where the bytes of a data set come from: official files, an offline bundle, a download, or scikit-learn.

Search order: the folder REPLICATION_DATA, ``data/``, ``../shared/data``, then the official download into ``data/``.
Every file is checked before its content is used, and nothing is ever unpickled.
"""

import hashlib
import http.client
import os
import socket
import urllib.error
from dataclasses import dataclass, field
from errno import EACCES, EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from replication import formats
from replication.errors import ReplicationError
from replication.formats import AGAIN, CIFAR, IDX_MD5, SUMS, Index, Splits
from replication.records import atomic, sha256
from replication.torchvision_shim import import_torchvision

_ELSEWHERE = "set REPLICATION_DATA to a folder that holds it, copy an offline bundle into data/, or run with --config scale=smoke"

# Places inside a search folder. The first is where a download or, for gray images, a bundle is written.
_FOLDERS = {
    "mnist": ("mnist", "MNIST/raw"),
    "fashion_mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
    "cifar10": ("cifar-10-batches-bin", "cifar10"),
    "cifar100": ("cifar-100-binary", "cifar100"),
    "digits": ("digits",),
}
NAMES = tuple(_FOLDERS)
_DIGITS = tuple("0123456789")
_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""
_CLASSES = {
    "mnist": _DIGITS,
    "fashion_mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "cifar100": tuple(_CIFAR100_CLASSES.split()),
    "digits": _DIGITS,
}

_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
# sha256 of decoded pixels (N x H x W [x C], uint8) -> what they are. Of the official CIFAR-10 pixels no sum is known.
_KNOWN = {
    "10d94edc57bf6b034670d5061cb6ac228cfc0fd07d5ba6ba4082883c4999a6d6": "cifar10 train",  # 81 images from JPEG
    "4674ac8c77f372061aaf9216c8857c99599d5df0bb9f6b16a3de613ef8eb348a": "cifar10 test",  # 23 images from JPEG
    "bfd8a86f095aa68c25e19f6e68ba20518b7e0d86715776400f15c04cf519f47b": "cifar100 train",  # the first 100 of each class
    "be2594cff4e548b6f5b872de2800b8bb852aa7fa60450e7098ce041ef9e094f9": "cifar100 test",  # the first 20 of each class
    "a678f5ab6ac125c4dfba98c64d1562b510eff50354e165b75e65d808f7be34c5": "cifar100 train",  # whole
    "8532fd42ce092c665328a7201998ab7e8768dad37afff89be94e13106523a495": "cifar100 test",  # whole
    "0f6c613b7ad2343df851ec1230c6ee15eb5ad29be01fa67639b3ffe54ca95b13": "digits train",
    "f8da3231f745dc76e21dcafa7258f107bdbb5603cbb47ac1807f3c667b241b70": "digits test",
}
_UNKNOWN = "; no known checksum"
_DIGITS_CONTENT = "scikit-learn's digits, divided into train and test by this package"


@dataclass(frozen=True)
class Origin:
    """What a data set is and where it was found.

    ``content`` is "official" or a sentence that says what it is instead; ``checksums`` are sha256 of the decoded pixels
    (N x H x W [x C], uint8) and of the labels (uint8). ``folder`` is for the reader of a record and never compared.
    """

    kind: Literal["official", "bundle", "package"]
    folder: str = field(compare=False)
    content: str
    checksums: dict[str, str]


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels: uint8 [n, channels, height, width], contiguous; labels: int64 [n]."""

    pixels: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test part of a data set, in the order of the source."""

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    origin: Origin


def search_folders() -> list[Path]:
    """Folders that are searched, in order; the last two need not exist.

    Raises:
        ReplicationError: REPLICATION_DATA names no folder.
    """
    folders = [Path("data"), Path("../shared/data")]
    named = os.environ.get("REPLICATION_DATA")
    if not named:
        return folders
    if not Path(named).is_dir():
        raise ReplicationError(f"REPLICATION_DATA is {named!r}, which is not a folder; correct it or unset it.")
    return [Path(named), *folders]


def find(name: str) -> Path | None:
    """The folder of the first copy of a data set (with at least one of its files) in the search folders.

    Raises:
        ReplicationError: unknown name, or REPLICATION_DATA names no folder.
    """
    _check_name(name)
    for place in (root / inside for root in search_folders() for inside in _FOLDERS[name]):
        if any((place / file).is_file() or formats.pieces_of(place / file) for file in _file_names(name, place)):
            return place
    return None


def read(name: str, *, download: bool = True) -> Dataset:
    """Read and check a data set; with ``download`` it is fetched into ``data/`` when no search folder holds it.

    Raises:
        ReplicationError: not to be had, incomplete, damaged, or not what its checksums say.
    """
    folder = find(name)
    if folder is None and name == "digits":
        return _digits()
    if folder is None and not download:
        raise ReplicationError(f"No search folder ({', '.join(map(str, search_folders()))}) holds {name}; {_ELSEWHERE}.")
    return _open(name, folder or _download_here(name))


def _download_here(name: str) -> Path:
    return download(name, Path("data"))


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise ReplicationError(f"Unknown data set {name!r}; allowed are {', '.join(NAMES)}: correct the name.")


def _is_binary(name: str, folder: Path) -> bool:
    return name in CIFAR and folder.name == _FOLDERS[name][0]


def _file_names(name: str, folder: Path) -> tuple[str, ...]:
    if name not in CIFAR:
        return (*formats.IDX_FILES, *(f"{file}.gz" for file in formats.IDX_FILES))
    return tuple(CIFAR[name].files) if _is_binary(name, folder) else formats.STRIP_FILES


def _open(name: str, folder: Path) -> Dataset:
    if name in IDX_MD5:
        return _dataset(name, formats.read_idx(folder, IDX_MD5[name]), "official", folder, "official")
    if not _is_binary(name, folder):
        formats.check_sums(folder.parent, folder, formats.STRIP_FILES if name in CIFAR else [f"{file}.gz" for file in formats.IDX_FILES])
        splits, content = _read_bundle(name, folder)
        return _dataset(name, splits, "bundle", folder, content)
    # The checksum of the archive is seen at the download only, which leaves the sums of the files it held.
    downloaded = (folder / SUMS).is_file()
    if downloaded:
        formats.check_sums(folder, folder, CIFAR[name].files)
    content = "official" if downloaded else "official file sizes and class counts"
    return _dataset(name, formats.read_cifar(folder, CIFAR[name], len(_CLASSES[name])), "official", folder, content)


def _dataset(name: str, splits: Splits, kind: Literal["official", "bundle", "package"], folder: Path | str, content: str) -> Dataset:
    parts, checksums = {}, {}
    for split, (pixels, labels) in splits.items():
        lowest, highest = int(labels.min(initial=0)), int(labels.max(initial=0))
        if len(pixels) != len(labels) or lowest < 0 or highest >= len(_CLASSES[name]):
            raise ReplicationError(
                f"The {split} part in {folder} has {len(pixels)} images and {len(labels)} labels from {lowest} to {highest}, "
                f"but every image needs one label in 0..{len(_CLASSES[name]) - 1}; {AGAIN}."
            )
        parts[split] = Images(torch.from_numpy(np.array(pixels, order="C")), torch.from_numpy(labels.astype(np.int64)))
        channels_last = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
        checksums[f"{split}_pixels"] = hashlib.sha256(channels_last.data).hexdigest()
        checksums[f"{split}_labels"] = hashlib.sha256(labels.astype(np.uint8).data).hexdigest()
    known = all(_KNOWN.get(checksums[f"{split}_pixels"]) == f"{name} {split}" for split in splits)
    if content != "official" and not known and not content.endswith(_UNKNOWN):
        content += _UNKNOWN
    return Dataset(name, parts["train"], parts["test"], _CLASSES[name], Origin(kind, str(folder), content, checksums))


def _digits() -> Dataset:
    """scikit-learn's 1,797 digits, 8 x 8, grey levels 0..16 stretched to 0..255; every fifth of each class is a test image."""
    from sklearn import datasets  # slow to import, and needed for these alone

    images, labels = datasets.load_digits(return_X_y=True)
    pixels = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    test = np.zeros(len(labels), bool)
    test[np.argsort(labels, kind="stable")[::5]] = True
    splits = {"train": (pixels[~test], labels[~test]), "test": (pixels[test], labels[test])}
    return _dataset("digits", splits, "package", "scikit-learn", _DIGITS_CONTENT)


def _read_bundle(name: str, folder: Path) -> tuple[Splits, str]:
    if name not in CIFAR:
        return formats.read_idx(folder, IDX_MD5.get(name, {})), _DIGITS_CONTENT
    (train, first), (test, second) = (formats.read_strips(folder, split) for split in ("train", "test"))
    return {"train": train, "test": test}, str(first["content"]) if "content" in first else _describe(name, first, second)


def _describe(name: str, train: Index, test: Index) -> str:
    """What the index of a bundle that does not state its content tells about it."""
    lossy = [int((index["source"] == formats.JPEG).sum()) for index in (train, test) if "source" in index]
    if any(lossy):
        return f"official order and labels; {lossy[0]} train and {lossy[-1]} test images decoded from JPEG"
    sizes = len(train["labels"]), len(test["labels"])
    if sum(sizes) == sum(CIFAR[name].files.values()):
        return "the whole set, rebuilt from public copies"
    per_class = [size // len(_CLASSES[name]) for size in sizes]
    return f"subset: {per_class[0]} train and {per_class[1]} test images per class"


def remote_files(name: str) -> list[tuple[str, str, list[str]]]:
    """File name, MD5 and addresses (mirrors in order) of every official file of a data set; empty for the digits."""
    if name in CIFAR:
        return [(CIFAR[name].archive, CIFAR[name].md5, [_CIFAR_URL + CIFAR[name].archive])]
    if name not in IDX_MD5:
        return []
    datasets = import_torchvision().datasets
    official = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    return [(file, md5, [mirror + file for mirror in official.mirrors]) for file, md5 in official.resources]


def download(name: str, folder: Path) -> Path:
    """Fetch the official files of a data set into their place inside ``folder``, which shows them only when all checks pass.

    Raises:
        ReplicationError: unknown name, no network, wrong checksum, full disk or closed folder.
    """
    _check_name(name)
    if name == "digits":
        raise ReplicationError("There is nothing to download for 'digits': they come with scikit-learn; read them instead.")
    target = Path(folder) / _FOLDERS[name][0]
    with atomic(target, folder=True) as temporary:
        for file, md5, urls in remote_files(name):
            _fetch(name, urls, temporary, file, md5)
        if name in CIFAR:
            formats.unpack(temporary / CIFAR[name].archive, _FOLDERS[name][0], CIFAR[name].files)
            formats.read_cifar(temporary, CIFAR[name], len(_CLASSES[name]))
            formats.write_sums(temporary / SUMS, {file: sha256(temporary / file) for file in CIFAR[name].files})
        else:
            formats.read_idx(temporary, IDX_MD5[name])
    return target


def _fetch(name: str, urls: list[str], folder: Path, file: str, md5: str) -> None:
    failures, patience = [], socket.getdefaulttimeout()
    for url in () if offline() else urls:
        socket.setdefaulttimeout(30)  # torchvision sets none: a silent mirror would hold the job for ever
        try:
            import_torchvision().datasets.utils.download_url(url, folder, file, md5)
            return
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            if not isinstance(error, urllib.error.URLError) and getattr(error, "errno", None) in (ENOSPC, EDQUOT, EROFS, EACCES):
                raise
            failures.append(f"{url}: {error}")
        finally:
            socket.setdefaulttimeout(patience)
    raise ReplicationError(f"Cannot download {name} ({'; '.join(failures) or 'REPLICATION_OFFLINE is set'}); {_ELSEWHERE}.")


def offline() -> bool:
    """Whether REPLICATION_OFFLINE forbids the network (any value but 0)."""
    return os.environ.get("REPLICATION_OFFLINE", "0") not in ("", "0")


def write_bundle(dataset: Dataset, folder: Path, *, piece_bytes: int | None = None) -> Path:
    """Write a data set as an offline bundle and enter its sums into ``SHA256SUMS`` of ``folder``; returns the data set's folder.

    Gray images become gzipped IDX files, colour images lossless WebP strips with an index; both are read back and
    compared before they get their name. Other data sets of the bundle stay; write one data set at a time. With
    ``piece_bytes`` larger files are cut into pieces of that size, which are read where they lie side by side.

    Raises:
        ReplicationError: gray images that are not the official ones (IDX cannot say so), full disk or closed folder.
    """
    _check_name(dataset.name)
    if dataset.name in IDX_MD5 and dataset.origin.content != "official":
        raise ReplicationError(f"Only the official {dataset.name} can be bundled, not {dataset.origin.content!r}; read it from its source.")
    root, inside = Path(folder), _FOLDERS[dataset.name][-1 if dataset.name in CIFAR else 0]
    with atomic(root / inside, folder=True) as temporary:
        for split, part in (("train", dataset.train), ("test", dataset.test)):
            if dataset.name in CIFAR:
                formats.write_strips(temporary, split, part.pixels.numpy(), part.labels.numpy(), dataset.origin.content)
            else:
                formats.write_idx(temporary, split, part.pixels.numpy(), part.labels.numpy())
        for path in sorted(temporary.iterdir()) if piece_bytes else ():
            formats.cut(path, piece_bytes or 0)
        splits, content = _read_bundle(dataset.name, temporary)
        if _dataset(dataset.name, splits, "bundle", temporary, content).origin.checksums != dataset.origin.checksums:
            raise ReplicationError(f"The bundle of {dataset.name} does not read back as it was; read the data set again before writing it.")
        sums = {f"{inside}/{path.name}": sha256(path) for path in sorted(temporary.iterdir())}
    others = formats.read_sums(root / SUMS) if (root / SUMS).is_file() else {}
    kept = {path: digest for path, digest in others.items() if not path.startswith(f"{inside}/")}
    with atomic(root / SUMS) as temporary:
        formats.write_sums(temporary, kept | sums)
    return root / inside
