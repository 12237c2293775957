"""File formats of data sets and the layout of the official files: IDX, binary CIFAR, WebP strips, and the sums beside them.

Splits are train and test: pixels uint8 [n, channels, height, width] and labels [n]. Every reader checks what it reads and
says in one sentence what is wrong; nothing is ever unpickled.
"""

import gzip
import hashlib
import io
import itertools
import lzma
import math
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from replication.errors import ReplicationError

Index = dict[str, np.ndarray]
Splits = dict[str, tuple[np.ndarray, np.ndarray]]

SUMS = "SHA256SUMS"
AGAIN = "delete it and copy or download the data set again"
# MD5 of the official files after decompression, so that a recompressed copy is as good as the original.
IDX_MD5 = {
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
IDX_FILES = tuple(IDX_MD5["mnist"])
STRIP_FILES = ("train.npz", "train.webp.bin", "test.npz", "test.webp.bin")
# what numpy, zipfile and Pillow raise for a damaged .npz or image. RuntimeError: a damaged header of a zip file that seems to ask
# for encryption or a newer format; SyntaxError: one of an array that does not parse; MemoryError: sizes that no file can have
UNREADABLE = (
    *(OSError, ValueError, TypeError, LookupError, RuntimeError, EOFError, MemoryError, OverflowError, SyntaxError),
    *(struct.error, lzma.LZMAError, zipfile.BadZipFile, zlib.error, Image.DecompressionBombError),
)
JPEG = 255  # mark of a lossy image in the index of a bundle
_MOST = 2**28  # bytes of a file after decompression; the largest official one has 47 million
_IMAGES_PER_STRIP = 500  # 16,000 rows: WebP allows 16,383


@dataclass(frozen=True)
class CifarLayout:
    """The official binary version of CIFAR: the Python version is a pickle, and reading a pickle can run code."""

    archive: str
    md5: str
    label_bytes: int  # the last of them is the (fine) label
    files: dict[str, int]  # number of images of each; the last file is the test part


_CIFAR_FILES_10 = {f"data_batch_{k}.bin": 10_000 for k in range(1, 6)} | {"test_batch.bin": 10_000}
_CIFAR_FILES_100 = {"train.bin": 50_000, "test.bin": 10_000}
CIFAR = {
    "cifar10": CifarLayout("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 1, _CIFAR_FILES_10),
    "cifar100": CifarLayout("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 2, _CIFAR_FILES_100),
}


def read_bytes(path: Path, *, gunzip: bool = False) -> bytes:
    """Content of a file of a data set, whole or in the pieces that lie in its place, decompressed if asked.

    Raises:
        ReplicationError: the file is missing, truncated, damaged or closed.
    """
    try:
        content = b"".join(piece.read_bytes() for piece in pieces_of(path) or [path])
        return _gunzipped(content) if gunzip else content
    except FileNotFoundError:
        raise ReplicationError(f"{path} is missing beside the other files of its set; copy or download the whole set again.") from None
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ReplicationError(f"{path} is truncated, damaged or closed to you ({error}); {AGAIN}.") from None


def _gunzipped(content: bytes) -> bytes:
    with gzip.open(io.BytesIO(content)) as handle:
        plain = handle.read(_MOST + 1)
    if len(plain) > _MOST:
        raise ValueError(f"it unpacks to more than {_MOST} bytes, which no file of a data set has")
    return plain


def pieces_of(path: Path) -> list[Path]:
    """The pieces of a file that was cut, in order; none where it is whole."""
    return [] if path.is_file() else sorted(path.parent.glob(f"{path.name}.[0-9][0-9][0-9]"))


def cut(path: Path, size: int) -> None:
    """Replace a file of more than ``size`` bytes by pieces ``<name>.000``, ... of at most that size.

    Raises:
        ReplicationError: there would be more than a thousand of them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a")
        ...     size = path.write_bytes(bytes(10))
        ...     cut(path, 4)
        ...     [piece.name for piece in pieces_of(path)], len(read_bytes(path))
        (['a.000', 'a.001', 'a.002'], 10)
    """
    whole = path.stat().st_size
    if whole <= size:
        return
    if whole > 1000 * size:
        raise ReplicationError(f"{path.name} of {whole} bytes would be cut into more than 1000 pieces; allow larger ones.")
    with open(path, "rb") as handle:
        for number, content in enumerate(iter(lambda: handle.read(size), b"")):
            path.with_name(f"{path.name}.{number:03}").write_bytes(content)
    path.unlink()


def read_idx(folder: Path, md5s: Mapping[str, str]) -> Splits:
    """The four IDX files of a folder, each gzipped or not.

    Args:
        md5s: MD5 of the official files after decompression, by name without ``.gz``; a file that is not named goes unchecked.

    Raises:
        ReplicationError: a file is missing, damaged, no IDX file of its rank or not the official one.
    """
    arrays = []
    for stem in IDX_FILES:
        path = folder / stem if (folder / stem).is_file() else folder / f"{stem}.gz"
        content = read_bytes(path, gunzip=path.suffix == ".gz")
        arrays.append(_parse_idx(path, content, rank=3 if "idx3" in stem else 1))
        if stem in md5s and hashlib.md5(content, usedforsecurity=False).hexdigest() != md5s[stem]:
            raise ReplicationError(f"{path} is not the official file (the MD5 of its content is not {md5s[stem]}); {AGAIN}.")
    return {"train": (arrays[0][:, None], arrays[1]), "test": (arrays[2][:, None], arrays[3])}


def _parse_idx(path: Path, content: bytes, rank: int) -> np.ndarray:
    magic, header = bytes((0, 0, 8, rank)), 4 + 4 * rank
    if content[:4] != magic:
        raise ReplicationError(f"{path} has the magic number {content[:4].hex()} where {magic.hex()} is needed; {AGAIN}.")
    shape = [int.from_bytes(content[k : k + 4]) for k in range(4, header, 4)]
    if len(content) != header + math.prod(shape):
        raise ReplicationError(f"{path} holds {len(content)} bytes where its header announces {header + math.prod(shape)}; {AGAIN}.")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(folder: Path, split: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Write gray images [n, 1, height, width] and labels [n] of one split as gzipped IDX files, the same bytes each time.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for split in ("train", "test"):
        ...         write_idx(Path(folder), split, np.zeros((2, 1, 28, 28)), np.array([3, 1]))
        ...     read_idx(Path(folder), {})["test"][1]
        array([3, 1], dtype=uint8)
    """
    images, numbers = IDX_FILES[:2] if split == "train" else IDX_FILES[2:]
    for stem, array in ((images, pixels[:, 0]), (numbers, labels)):
        header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4) for size in array.shape)
        content = header + array.astype(np.uint8).tobytes()
        (folder / f"{stem}.gz").write_bytes(gzip.compress(content, mtime=0))


def read_cifar(folder: Path, layout: CifarLayout, classes: int) -> Splits:
    """Splits of the binary version of CIFAR, whose classes are equally frequent.

    Raises:
        ReplicationError: a file is missing or of another size, or the classes are not equally frequent.
    """
    records = []
    for file, images in layout.files.items():
        content, size = read_bytes(folder / file), images * (layout.label_bytes + 3072)
        if len(content) != size:
            raise ReplicationError(f"{folder / file} holds {len(content)} bytes where the official file has {size}; {AGAIN}.")
        records.append(np.frombuffer(content, np.uint8).reshape(images, -1))
    splits = {}
    for split, rows in {"train": np.concatenate(records[:-1]), "test": records[-1]}.items():
        labels = rows[:, layout.label_bytes - 1]
        counts = np.bincount(labels, minlength=classes)
        if len(set(counts)) > 1:
            raise ReplicationError(f"The {split} files in {folder} hold {min(counts)} to {max(counts)} images per class; {AGAIN}.")
        splits[split] = (rows[:, layout.label_bytes :].reshape(-1, 3, 32, 32), labels)
    return splits


def unpack(archive: Path, inner: str, files: Iterable[str]) -> None:
    """Replace a tar archive by those ``files`` of its folder ``inner`` that are wanted; nothing is written elsewhere.

    Raises:
        ReplicationError: the archive is damaged, or a name in it leads out of its folder.
    """
    folder = archive.parent
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, lzma.LZMAError, zlib.error) as error:
        reason = " ".join(str(error).split())  # tarfile's own goes over several lines
        raise ReplicationError(f"{archive.name} cannot be unpacked safely ({reason}); download it again.") from None
    for file in files:
        (folder / inner / file).rename(folder / file)
    shutil.rmtree(folder / inner)
    archive.unlink()


def join_folders(folders: Iterable[Path], target: Path) -> None:
    """Make ``target`` a folder of links to the files of several folders that hold pieces of one bundle, with all their sums."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    sums: dict[str, str] = {}
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            link = target / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            if path == folder / SUMS:
                sums |= read_sums(path)
            elif not link.exists():
                link.symlink_to(path.resolve())
    if sums:
        write_sums(target / SUMS, sums)


def read_strips(folder: Path, split: str) -> tuple[tuple[np.ndarray, np.ndarray], Index]:
    """Pixels and labels of one split from its lossless WebP strips, and the index of the strips.

    Raises:
        ReplicationError: the strips or their index are missing or damaged.
    """
    index_path, path = folder / f"{split}.npz", folder / f"{split}.webp.bin"
    content, packed_index = read_bytes(path), io.BytesIO(read_bytes(index_path))
    try:
        with np.load(packed_index, allow_pickle=False) as archive:
            index = dict(archive)
        offsets, labels = index["offsets"], index["labels"]
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {labels.dtype} of shape {labels.shape}")
        if offsets[-1] != len(content):
            raise ValueError(f"{len(content)} bytes where the index announces {offsets[-1]}")
        strips = []
        for start, end in itertools.pairwise(offsets):
            with Image.open(io.BytesIO(content[start:end]), formats=["WEBP"]) as strip:
                strips.append(np.asarray(strip.convert("RGB")).reshape(-1, strip.width, strip.width, 3))
        return (np.concatenate(strips).transpose(0, 3, 1, 2), labels), index
    except UNREADABLE as error:
        reason = " ".join(str(error).split())  # numpy's own may go over several lines
        raise ReplicationError(f"{path} or {index_path.name} is truncated or damaged ({reason}); {AGAIN}.") from None


def write_strips(folder: Path, split: str, pixels: np.ndarray, labels: np.ndarray, content: str) -> None:
    """Write colour images [n, 3, size, size] and labels [n] of one split as WebP strips; ``content`` says what they are.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_strips(Path(folder), "test", np.zeros((2, 3, 8, 8), np.uint8), np.array([3, 1]), "made up")
        ...     read_strips(Path(folder), "test")[0][0].shape
        (2, 3, 8, 8)
    """
    strips, channels_last = [], pixels.transpose(0, 2, 3, 1)
    for start in range(0, len(pixels), _IMAGES_PER_STRIP):
        buffer = io.BytesIO()
        rows = channels_last[start : start + _IMAGES_PER_STRIP].reshape(-1, pixels.shape[3], 3)
        Image.fromarray(rows).save(buffer, "WEBP", lossless=True)
        strips.append(buffer.getvalue())
    (folder / f"{split}.webp.bin").write_bytes(b"".join(strips))
    offsets = np.cumsum([0, *map(len, strips)], dtype=np.int64)
    np.savez(folder / f"{split}.npz", offsets=offsets, labels=labels.astype(np.uint8), content=np.array(content))


def read_sums(path: Path) -> dict[str, str]:
    """sha256 by file name from a file as ``sha256sum`` writes it.

    Raises:
        ReplicationError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ReplicationError(f"{path} is missing, so the bundle beside it cannot be checked; copy {SUMS} with the bundle.")
    entries = [line.split(maxsplit=1) for line in path.read_text(errors="replace").splitlines() if line.strip()]
    if any(len(entry) != 2 or len(entry[0]) != 64 for entry in entries):
        raise ReplicationError(f"{path} is damaged (a line is not a sha256 and a file name); copy it again with the bundle.")
    return {file: digest for digest, file in entries}


def write_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Write sha256 by file name as ``sha256sum`` does."""
    path.write_text("".join(f"{digest}  {file}\n" for file, digest in sums.items()))


def check_sums(root: Path, folder: Path, files: Iterable[str]) -> None:
    """Compare ``files`` of ``folder``, or their pieces, with the sums in ``root``.

    Raises:
        ReplicationError: the sums are missing or damaged, or a file is not listed, missing or changed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = Path(folder, "a").write_bytes(b"content")
        ...     write_sums(Path(folder, SUMS), {"a": hashlib.sha256(b"content").hexdigest()})
        ...     check_sums(Path(folder), Path(folder), ["a"])  # silent: nothing was changed
    """
    recorded = read_sums(root / SUMS)
    paths = []
    for whole in (folder / file for file in files):
        piece = re.compile(rf"{re.escape(whole.relative_to(root).as_posix())}\.\d{{3}}")
        paths += [root / name for name in recorded if piece.fullmatch(name)] or [whole]
    for path in paths:
        listed = recorded.get(path.relative_to(root).as_posix())
        if listed is None:
            raise ReplicationError(f"{root / SUMS} does not list {path.relative_to(root)}; copy the sums that belong to the bundle.")
        if hashlib.sha256(read_bytes(path)).hexdigest() != listed:
            raise ReplicationError(f"{path} is damaged or was changed (its sha256 is not the {listed[:12]}... of {SUMS}); {AGAIN}.")
