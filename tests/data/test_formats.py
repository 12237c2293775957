"""Every format reads back what was written, and every kind of damage gives one sentence that names the file."""

import contextlib
import gzip
import hashlib
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.data.sources import formats
from replication.data.sources.formats import CIFAR, IDX_FILES, CifarLayout
from replication.errors import ReplicationError

TINY_CIFAR = CifarLayout("tiny.tar.gz", "", 2, {"one.bin": 4, "two.bin": 6, "last.bin": 5})


def fails(*words: str) -> contextlib.AbstractContextManager[object]:
    """One sentence that holds the words in order."""
    return pytest.raises(ReplicationError, match=r"(?s)\A[^\n]*" + "[^\n]*".join(map(re.escape, words)) + r"[^\n]*\.\Z")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + b"".join(int(size).to_bytes(4) for size in array.shape) + array.tobytes()


@pytest.fixture
def gray(tmp_path: Path) -> dict[str, bytes]:
    """Content of four small IDX files by name; they lie gzipped in ``tmp_path``."""
    random = np.random.RandomState(0)
    shapes = dict(zip(IDX_FILES, [(30, 28, 28), (30,), (20, 28, 28), (20,)], strict=True))
    files = {name: idx(random.randint(0, 10, shape).astype(np.uint8)) for name, shape in shapes.items()}
    for name, content in files.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    return files


def md5s(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 5), height=st.integers(1, 4), width=st.integers(1, 4))
def test_idx_files_read_back(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int, height: int, width: int) -> None:
    random, folder = np.random.RandomState(seed), tmp_path_factory.mktemp("idx")
    parts = {s: (random.randint(0, 256, (count, 1, height, width)), random.randint(0, 256, count)) for s in ("train", "test")}
    for split, (pixels, labels) in parts.items():
        formats.write_idx(folder, split, pixels, labels)
    for split, (pixels, labels) in formats.read_idx(folder, {}).items():
        np.testing.assert_array_equal(pixels, parts[split][0])
        np.testing.assert_array_equal(labels, parts[split][1])
        assert pixels.dtype == labels.dtype == np.uint8


def test_an_uncompressed_file_goes_before_a_gzipped_one(tmp_path: Path, gray: dict[str, bytes]) -> None:
    plain = idx(np.full(30, 7, np.uint8))
    (tmp_path / IDX_FILES[1]).write_bytes(plain)
    assert formats.read_idx(tmp_path, {})["train"][1].tolist() == [7] * 30


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: gzip.compress(raw)[:-20], ["train-images-idx3-ubyte.gz", "truncated"]),
        (lambda raw: b"no gzip at all", ["train-images-idx3-ubyte.gz", "damaged"]),
        (lambda raw: gzip.compress(raw)[:40] + bytes(20) + gzip.compress(raw)[60:], ["train-images-idx3-ubyte.gz", "damaged"]),
        (lambda raw: gzip.compress(raw[:-1]), ["holds 23535 bytes where its header announces 23536"]),
        (lambda raw: gzip.compress(raw + b"x"), ["holds 23537 bytes where its header announces 23536"]),
        (lambda raw: gzip.compress(raw[:9]), ["holds 9 bytes"]),
        (lambda raw: gzip.compress(b""), ["magic number", "00000803"]),
        (lambda raw: gzip.compress(b"\0\0\x08\x01" + raw[4:]), ["magic number 00000801 where 00000803"]),
        (lambda raw: gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1])), ["not the official file", "MD5", "download the data set again"]),
    ],
    ids=["cut gz", "no gz", "broken gz", "cut idx", "long idx", "cut header", "empty", "magic", "one pixel"],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, gray: dict[str, bytes], damage, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(damage(gray["train-images-idx3-ubyte"]))
    with fails(*words):
        formats.read_idx(tmp_path, md5s(gray))


def test_a_missing_idx_file_is_named(tmp_path: Path, gray: dict[str, bytes]) -> None:
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with fails("t10k-labels-idx1-ubyte.gz is missing", "whole set"):
        formats.read_idx(tmp_path, md5s(gray))


@pytest.fixture
def cifar(tmp_path: Path) -> np.ndarray:
    """Rows of 15 images of 5 classes (one coarse and one fine label byte, then red, green and blue); the files are in ``tmp_path``."""
    rows = np.random.RandomState(0).randint(0, 256, (15, 3074)).astype(np.uint8)
    rows[:, 1] = np.arange(15) % 5
    first = 0
    for file, count in TINY_CIFAR.files.items():
        (tmp_path / file).write_bytes(rows[first : first + count].tobytes())
        first += count
    return rows


def test_the_last_label_byte_and_the_channel_planes_are_read(tmp_path: Path, cifar: np.ndarray) -> None:
    splits = formats.read_cifar(tmp_path, TINY_CIFAR, 5)
    assert splits["train"][1].tolist() == [n % 5 for n in range(10)]
    assert splits["test"][1].tolist() == [0, 1, 2, 3, 4]
    assert splits["test"][0].shape == (5, 3, 32, 32)
    assert splits["train"][0][7, 2, 31, 30] == cifar[7, 2 + 2 * 1024 + 31 * 32 + 30]


def test_damaged_binary_files_are_named(tmp_path: Path, cifar: np.ndarray) -> None:
    whole = (tmp_path / "two.bin").read_bytes()
    (tmp_path / "two.bin").write_bytes(whole[:-1])
    with fails("two.bin holds 18443 bytes where the official file has 18444"):
        formats.read_cifar(tmp_path, TINY_CIFAR, 5)
    (tmp_path / "two.bin").write_bytes(whole[:1] + b"\x01" + whole[2:])
    with fails("train files", "1 to 3 images per class"):
        formats.read_cifar(tmp_path, TINY_CIFAR, 5)
    (tmp_path / "two.bin").unlink()
    with fails("two.bin is missing"):
        formats.read_cifar(tmp_path, TINY_CIFAR, 5)


def test_the_official_layouts_hold_all_images() -> None:
    assert {name: sum(layout.files.values()) for name, layout in CIFAR.items()} == dict.fromkeys(("cifar10", "cifar100"), 60_000)
    assert {tuple(files) for files in formats.IDX_MD5.values()} == {IDX_FILES}


def archive_of(folder: Path, name: str, *, also: str | None = None) -> Path:
    place = folder / name
    place.mkdir()
    for file in ("kept.bin", "readme.html"):
        (place / file).write_text(file)
    with tarfile.open(folder / "official.tar.gz", "w:gz") as tar:
        tar.add(place, name)
        if also:
            tar.add(place / "readme.html", also)
    return folder / "official.tar.gz"


def test_an_archive_leaves_the_wanted_files_alone(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    archive = archive_of(tmp_path, "inner").rename(tmp_path / "target/official.tar.gz")
    formats.unpack(archive, "inner", ["kept.bin"])
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["kept.bin"]
    assert (tmp_path / "target/kept.bin").read_text() == "kept.bin"


@pytest.mark.parametrize("damage", ["outside", "cut", "no archive"])
def test_a_damaged_archive_or_one_that_leaves_its_folder_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "target").mkdir()
    archive = archive_of(tmp_path, "inner", also="../evil.html" if damage == "outside" else None).rename(
        tmp_path / "target/official.tar.gz"
    )
    if damage != "outside":
        archive.write_bytes(archive.read_bytes()[:-60] if damage == "cut" else b"no archive")
    with fails("official.tar.gz cannot be unpacked safely", "download it again"):
        formats.unpack(archive, "inner", ["kept.bin"])
    assert not (tmp_path / "evil.html").exists()


@pytest.mark.parametrize("count", [1, 500, 501])
def test_strips_read_back(tmp_path: Path, count: int) -> None:
    random = np.random.RandomState(count)
    pixels, labels = random.randint(0, 256, (count, 3, 8, 8)).astype(np.uint8), random.randint(0, 10, count)
    formats.write_strips(tmp_path, "train", pixels, labels, "what they are")
    (read_pixels, read_labels), index = formats.read_strips(tmp_path, "train")
    np.testing.assert_array_equal(read_pixels, pixels)
    np.testing.assert_array_equal(read_labels, labels)
    assert str(index["content"]) == "what they are"
    assert len(index["offsets"]) == -(-count // 500) + 1


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    pixels = np.random.RandomState(0).randint(0, 256, (100, 3, 8, 8)).astype(np.uint8)
    formats.write_strips(tmp_path, "test", pixels, np.arange(100) % 10, "small")
    return tmp_path


@pytest.mark.parametrize("file", ["test.npz", "test.webp.bin"])
def test_damaged_strips_are_an_error_and_no_crash(strips: Path, file: str) -> None:
    whole = (strips / file).read_bytes()
    random = np.random.RandomState(0)
    for cut in [0, 1, 10, len(whole) - 1, *random.randint(0, len(whole), 10)]:
        (strips / file).write_bytes(whole[:cut])
        with fails("test.webp.bin or test.npz is truncated or damaged"):
            formats.read_strips(strips, "test")
    for position in random.randint(0, len(whole), 30):
        (strips / file).write_bytes(whole[:position] + bytes(50) + whole[position + 50 :])
        with contextlib.suppress(ReplicationError):
            pixels = formats.read_strips(strips, "test")[0][0]
            assert pixels.dtype == np.uint8


def test_an_index_is_never_unpickled(strips: Path) -> None:
    np.savez(strips / "test.npz", offsets=np.array([{"pickled": True}], dtype=object), labels=np.zeros(1, np.uint8))
    with fails("test.npz", "allow_pickle=False"):
        formats.read_strips(strips, "test")


def test_sums_read_back_and_hold(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a b.bin").write_bytes(b"content")
    sums = {"set/a b.bin": hashlib.sha256(b"content").hexdigest()}
    formats.write_sums(tmp_path / formats.SUMS, sums)
    assert formats.read_sums(tmp_path / formats.SUMS) == sums
    formats.check_sums(tmp_path, tmp_path / "set", ["a b.bin"])
    (tmp_path / "set/a b.bin").write_bytes(b"Content")
    with fails("a b.bin is damaged or was changed", sums["set/a b.bin"][:12]):
        formats.check_sums(tmp_path, tmp_path / "set", ["a b.bin"])
    with fails("SHA256SUMS does not list set/other.bin"):
        formats.check_sums(tmp_path, tmp_path / "set", ["other.bin"])


@pytest.mark.parametrize("line", ["0" * 64, f"{'0' * 63}  file", "\xff"])
def test_damaged_sums_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / formats.SUMS).write_text(line, encoding="latin-1")
    with fails("SHA256SUMS is damaged", "not a sha256 and a file name"):
        formats.read_sums(tmp_path / formats.SUMS)
    (tmp_path / formats.SUMS).unlink()
    with fails("SHA256SUMS is missing", "copy SHA256SUMS"):
        formats.read_sums(tmp_path / formats.SUMS)
