"""Where the bytes of a data set come from: official files, an offline bundle, a download, or scikit-learn.

Search order: the folder REPLICATION_DATA, ``data/``, ``../shared/data``, then the official download into ``data/``.
Every file is checked before its content is used, and nothing is ever unpickled.
"""

import gzip
import hashlib
import http.client
import io
import itertools
import math
import os
import shutil
import socket
import tarfile
import urllib.error
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from errno import EACCES, EDQUOT, ENOSPC, EROFS
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from replication.errors import ReplicationError
from replication.records import atomic, sha256
from replication.torchvision_shim import import_torchvision

_Index = dict[str, np.ndarray]
_Splits = dict[str, tuple[np.ndarray, np.ndarray]]  # train and test: pixels [n, channels, height, width] and labels [n]

SUMS = "SHA256SUMS"
_AGAIN = "delete it and copy or download the data set again"
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

_STRIPS = ("train.npz", "train.webp.bin", "test.npz", "test.webp.bin")
_IMAGES_PER_STRIP = 500  # 16,000 rows: WebP allows 16,383
_JPEG = 255  # mark of a lossy image in the index of a bundle
# MD5 of the official files after decompression, so that a recompressed copy is as good as the original.
_IDX_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
_IDX = tuple(_IDX_MD5["mnist"])


@dataclass(frozen=True)
class _Cifar:
    """The official binary version of CIFAR: the Python version is a pickle, and reading a pickle can run code."""

    archive: str
    md5: str
    label_bytes: int  # the last of them is the (fine) label
    files: dict[str, int]  # number of images of each; the last file is the test part


_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_FILES_10 = {f"data_batch_{k}.bin": 10_000 for k in range(1, 6)} | {"test_batch.bin": 10_000}
_CIFAR_FILES_100 = {"train.bin": 50_000, "test.bin": 10_000}
_CIFAR = {
    "cifar10": _Cifar("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 1, _CIFAR_FILES_10),
    "cifar100": _Cifar("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 2, _CIFAR_FILES_100),
}

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
        if any((place / file).is_file() for file in _file_names(name, place)):
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
    return name in _CIFAR and folder.name == _FOLDERS[name][0]


def _file_names(name: str, folder: Path) -> tuple[str, ...]:
    if name not in _CIFAR:
        return (*_IDX, *(f"{file}.gz" for file in _IDX))
    return tuple(_CIFAR[name].files) if _is_binary(name, folder) else _STRIPS


def _open(name: str, folder: Path) -> Dataset:
    if name in _IDX_MD5:
        return _dataset(name, _read_idx(folder, _IDX_MD5[name]), "official", folder, "official")
    if not _is_binary(name, folder):
        _check_sums(folder.parent, folder, _STRIPS if name in _CIFAR else [f"{file}.gz" for file in _IDX])
        splits, content = _read_bundle(name, folder)
        return _dataset(name, splits, "bundle", folder, content)
    # The checksum of the archive is seen at the download only, which leaves the sums of the files it held.
    downloaded = (folder / SUMS).is_file()
    if downloaded:
        _check_sums(folder, folder, _CIFAR[name].files)
    content = "official" if downloaded else "official file sizes and class counts"
    return _dataset(name, _read_binary(name, folder), "official", folder, content)


def _dataset(name: str, splits: _Splits, kind: Literal["official", "bundle", "package"], folder: Path | str, content: str) -> Dataset:
    parts, checksums = {}, {}
    for split, (pixels, labels) in splits.items():
        lowest, highest = int(labels.min(initial=0)), int(labels.max(initial=0))
        if len(pixels) != len(labels) or lowest < 0 or highest >= len(_CLASSES[name]):
            raise ReplicationError(
                f"The {split} part in {folder} has {len(pixels)} images and {len(labels)} labels from {lowest} to {highest}, "
                f"but every image needs one label in 0..{len(_CLASSES[name]) - 1}; {_AGAIN}."
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


def _bytes(path: Path, *, gunzip: bool = False) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if gunzip else content
    except FileNotFoundError:
        raise ReplicationError(f"{path} is missing beside the other files of its set; copy or download the whole set again.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ReplicationError(f"{path} is truncated, damaged or closed to you ({error}); {_AGAIN}.") from None


def _read_idx(folder: Path, md5s: Mapping[str, str]) -> _Splits:
    arrays = []
    for stem in _IDX:
        path = folder / stem if (folder / stem).is_file() else folder / f"{stem}.gz"
        content = _bytes(path, gunzip=path.suffix == ".gz")
        arrays.append(_parse_idx(path, content, rank=3 if "idx3" in stem else 1))
        if stem in md5s and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5s[stem]:
            raise ReplicationError(f"{path} is not the official file (the MD5 of its content is not {md5s[stem]}); {_AGAIN}.")
    return {"train": (arrays[0][:, None], arrays[1]), "test": (arrays[2][:, None], arrays[3])}


def _parse_idx(path: Path, content: bytes, rank: int) -> np.ndarray:
    magic, header = bytes((0, 0, 8, rank)), 4 + 4 * rank
    if content[:4] != magic:
        raise ReplicationError(f"{path} has the magic number {content[:4].hex()} where {magic.hex()} is needed; {_AGAIN}.")
    shape = [int.from_bytes(content[k : k + 4]) for k in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise ReplicationError(f"{path} holds {len(content)} bytes where its header announces {header + math.prod(shape)}; {_AGAIN}.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_binary(name: str, folder: Path) -> _Splits:
    cifar, records = _CIFAR[name], []
    for file, images in cifar.files.items():
        content, size = _bytes(folder / file), images * (cifar.label_bytes + 3072)
        if len(content) != size:
            raise ReplicationError(f"{folder / file} holds {len(content)} bytes where the official file has {size}; {_AGAIN}.")
        records.append(np.frombuffer(content, np.uint8).reshape(images, -1))
    splits = {}
    for split, rows in {"train": np.concatenate(records[:-1]), "test": records[-1]}.items():
        labels = rows[:, cifar.label_bytes - 1]
        counts = np.bincount(labels, minlength=len(_CLASSES[name]))
        if len(set(counts)) > 1:
            raise ReplicationError(f"The {split} files in {folder} hold {min(counts)} to {max(counts)} images per class; {_AGAIN}.")
        splits[split] = (rows[:, cifar.label_bytes :].reshape(-1, 3, 32, 32), labels)
    return splits


def _read_bundle(name: str, folder: Path) -> tuple[_Splits, str]:
    if name not in _CIFAR:
        return _read_idx(folder, _IDX_MD5.get(name, {})), _DIGITS_CONTENT
    (train, first), (test, second) = (_read_strips(folder, split) for split in ("train", "test"))
    return {"train": train, "test": test}, str(first["content"]) if "content" in first else _describe(name, first, second)


def _describe(name: str, train: _Index, test: _Index) -> str:
    """What the index of a bundle that does not state its content tells about it."""
    lossy = [int((index["source"] == _JPEG).sum()) for index in (train, test) if "source" in index]
    if any(lossy):
        return f"official order and labels; {lossy[0]} train and {lossy[-1]} test images decoded from JPEG"
    sizes = len(train["labels"]), len(test["labels"])
    if sum(sizes) == sum(_CIFAR[name].files.values()):
        return "the whole set, rebuilt from public copies"
    per_class = [size // len(_CLASSES[name]) for size in sizes]
    return f"subset: {per_class[0]} train and {per_class[1]} test images per class"


def _read_strips(folder: Path, split: str) -> tuple[tuple[np.ndarray, np.ndarray], _Index]:
    index_path, path = folder / f"{split}.npz", folder / f"{split}.webp.bin"
    content, packed_index = _bytes(path), io.BytesIO(_bytes(index_path))
    try:
        with np.load(packed_index, allow_pickle=False) as archive:
            index = dict(archive)
        offsets, labels = index["offsets"], index["labels"]
        if offsets[-1] != len(content):
            raise ValueError(f"{len(content)} bytes where the index announces {offsets[-1]}")
        strips = []
        for start, end in itertools.pairwise(offsets):
            with Image.open(io.BytesIO(content[start:end]), formats=["WEBP"]) as strip:
                strips.append(np.asarray(strip.convert("RGB")).reshape(-1, strip.width, strip.width, 3))
        return (np.concatenate(strips).transpose(0, 3, 1, 2), labels), index
    # RuntimeError: what zipfile makes of a damaged header that seems to ask for encryption or a newer format
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ReplicationError(f"{path} or {index_path.name} is truncated or damaged ({error}); {_AGAIN}.") from None


def _read_sums(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ReplicationError(f"{path} is missing, so the bundle beside it cannot be checked; copy {SUMS} with the bundle.")
    entries = [line.split(maxsplit=1) for line in path.read_text(errors="replace").splitlines() if line.strip()]
    if any(len(entry) != 2 or len(entry[0]) != 64 for entry in entries):
        raise ReplicationError(f"{path} is damaged (a line is not a sha256 and a file name); copy it again with the bundle.")
    return {file: digest for digest, file in entries}


def _check_sums(root: Path, folder: Path, files: Iterable[str]) -> None:
    recorded = _read_sums(root / SUMS)
    for path in (folder / file for file in files):
        listed = recorded.get(path.relative_to(root).as_posix())
        if listed is None:
            raise ReplicationError(f"{root / SUMS} does not list {path.relative_to(root)}; copy the sums that belong to the bundle.")
        if hashlib.sha256(_bytes(path)).hexdigest() != listed:
            raise ReplicationError(f"{path} is damaged or was changed (its sha256 is not the {listed[:12]}... of {SUMS}); {_AGAIN}.")


def remote_files(name: str) -> list[tuple[str, str, list[str]]]:
    """File name, MD5 and addresses (mirrors in order) of every official file of a data set; empty for the digits."""
    if name in _CIFAR:
        return [(_CIFAR[name].archive, _CIFAR[name].md5, [_CIFAR_URL + _CIFAR[name].archive])]
    if name not in _IDX_MD5:
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
        if name in _CIFAR:
            _unpack(name, temporary)
            _read_binary(name, temporary)
            (temporary / SUMS).write_text("".join(f"{sha256(temporary / file)}  {file}\n" for file in _CIFAR[name].files))
        else:
            _read_idx(temporary, _IDX_MD5[name])
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


def _unpack(name: str, folder: Path) -> None:
    archive, inner = folder / _CIFAR[name].archive, folder / _FOLDERS[name][0]
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ReplicationError(f"{archive.name} cannot be unpacked safely ({error}); download it again.") from None
    for file in _CIFAR[name].files:
        (inner / file).rename(folder / file)
    shutil.rmtree(inner)
    archive.unlink()


def write_bundle(dataset: Dataset, folder: Path) -> Path:
    """Write a data set as an offline bundle and enter its sums into ``SHA256SUMS`` of ``folder``; returns the data set's folder.

    Gray images become gzipped IDX files, colour images lossless WebP strips with an index; both are read back and
    compared before they get their name. Other data sets of the bundle stay; write one data set at a time.

    Raises:
        ReplicationError: gray images that are not the official ones (IDX cannot say so), full disk or closed folder.
    """
    _check_name(dataset.name)
    if dataset.name in _IDX_MD5 and dataset.origin.content != "official":
        raise ReplicationError(f"Only the official {dataset.name} can be bundled, not {dataset.origin.content!r}; read it from its source.")
    root, inside = Path(folder), _FOLDERS[dataset.name][-1 if dataset.name in _CIFAR else 0]
    with atomic(root / inside, folder=True) as temporary:
        for split, part in (("train", dataset.train), ("test", dataset.test)):
            if dataset.name in _CIFAR:
                _write_strips(temporary, split, part, dataset.origin.content)
            else:
                _write_idx(temporary, split, part)
        splits, content = _read_bundle(dataset.name, temporary)
        if _dataset(dataset.name, splits, "bundle", temporary, content).origin.checksums != dataset.origin.checksums:
            raise ReplicationError(f"The bundle of {dataset.name} does not read back as it was; read the data set again before writing it.")
        sums = {f"{inside}/{path.name}": sha256(path) for path in sorted(temporary.iterdir())}
    others = _read_sums(root / SUMS) if (root / SUMS).is_file() else {}
    kept = {path: digest for path, digest in others.items() if not path.startswith(f"{inside}/")}
    with atomic(root / SUMS) as temporary:
        temporary.write_text("".join(f"{digest}  {path}\n" for path, digest in (kept | sums).items()))
    return root / inside


def _write_idx(folder: Path, split: str, part: Images) -> None:
    images, labels = _IDX[:2] if split == "train" else _IDX[2:]
    for stem, array in ((images, part.pixels[:, 0]), (labels, part.labels)):
        header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4) for size in array.shape)
        content = header + array.to(torch.uint8).contiguous().numpy().tobytes()
        (folder / f"{stem}.gz").write_bytes(gzip.compress(content, mtime=0))


def _write_strips(folder: Path, split: str, part: Images, content: str) -> None:
    strips = []
    for pixels in part.pixels.permute(0, 2, 3, 1).split(_IMAGES_PER_STRIP):
        buffer = io.BytesIO()
        Image.fromarray(pixels.reshape(-1, pixels.shape[2], 3).numpy()).save(buffer, "WEBP", lossless=True)
        strips.append(buffer.getvalue())
    (folder / f"{split}.webp.bin").write_bytes(b"".join(strips))
    offsets = np.cumsum([0, *map(len, strips)], dtype=np.int64)
    np.savez(folder / f"{split}.npz", offsets=offsets, labels=part.labels.numpy().astype(np.uint8), content=np.array(content))
