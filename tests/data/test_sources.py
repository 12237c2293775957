"""Every source gives the same pixels, and every kind of damage gives one sentence and leaves nothing half-written."""

import contextlib
import errno
import functools
import gzip
import hashlib
import http.server
import os
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import load_digits

from replication.data.sources import Dataset, formats, import_torchvision, reading
from replication.errors import ReplicationError
from replication.files.atomic import sha256

REAL = Path(os.environ.get("REPLICATION_DATA") or ROOT / "../shared/data").resolve()
STEMS = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}


@pytest.fixture(autouse=True)
def folder(search_folder: Path) -> Path:
    """No data but what a test puts there."""
    return search_folder


def fails(*words: str) -> contextlib.AbstractContextManager[object]:
    """One sentence that holds the words in order."""
    return pytest.raises(ReplicationError, match=r"(?s)\A[^\n]*" + "[^\n]*".join(map(re.escape, words)) + r"[^\n]*\.\Z")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + b"".join(int(size).to_bytes(4) for size in array.shape) + array.tobytes()


@pytest.fixture
def gray(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Small IDX files that stand for the official MNIST: content by file name."""
    random = np.random.RandomState(0)
    files = {}
    for split, count in (("train", 30), ("test", 20)):
        images, labels = STEMS[split]
        files[images] = idx(random.randint(0, 256, (count, 28, 28)).astype(np.uint8))
        files[labels] = idx((np.arange(count) % 10).astype(np.uint8))
    monkeypatch.setitem(formats.IDX_MD5, "mnist", {name: hashlib.md5(content).hexdigest() for name, content in files.items()})
    return files


def put(files: dict[str, bytes], place: Path, *, gz: bool = True) -> Path:
    place.mkdir(parents=True)
    for name, content in files.items():
        (place / (f"{name}.gz" if gz else name)).write_bytes(gzip.compress(content) if gz else content)
    return place


# Search


def test_folders_are_searched_in_order(folder: Path, gray: dict[str, bytes]) -> None:
    assert reading.search_folders() == [folder, Path("data"), Path("../shared/data")]
    assert reading.find("mnist") is None
    for root in (Path("../shared/data"), Path("data"), folder):
        assert reading.find("mnist") != root / "mnist"
        put(gray, root / "mnist")
        assert reading.find("mnist") == root / "mnist"


def test_a_named_folder_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_DATA", "nowhere")
    with fails("REPLICATION_DATA", "'nowhere'", "correct it or unset it"):
        reading.find("mnist")
    monkeypatch.delenv("REPLICATION_DATA")
    assert reading.search_folders() == [Path("data"), Path("../shared/data")]


@pytest.mark.parametrize("call", [reading.find, reading.read, lambda name: reading.download(name, Path("data"))])
def test_an_unknown_name_lists_the_allowed_ones(call) -> None:  # type: ignore[no-untyped-def]
    with fails("'imagenet'", "mnist, fashion_mnist, cifar10, cifar100, digits"):
        call("imagenet")


def test_absent_data_names_the_next_step() -> None:
    with fails("holds mnist", "REPLICATION_DATA", "bundle", "--config scale=smoke"):
        reading.read("mnist", download=False)
    with fails("Cannot download mnist", "REPLICATION_OFFLINE is set", "--config scale=smoke"):
        reading.read("mnist")
    assert not Path("data/mnist").exists()


# Official files


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw"])
@pytest.mark.parametrize("gz", [True, False])
def test_idx_files_are_read_compressed_or_not(folder: Path, gray: dict[str, bytes], place: str, gz: bool) -> None:
    put(gray, folder / place, gz=gz)
    dataset = reading.read("mnist")
    assert dataset.train.pixels.shape == (30, 1, 28, 28)
    assert dataset.test.pixels.shape == (20, 1, 28, 28)
    assert dataset.train.pixels.dtype == torch.uint8
    assert dataset.train.pixels.is_contiguous()
    assert dataset.train.labels.dtype == torch.int64
    assert dataset.train.pixels.numpy().tobytes() == gray[STEMS["train"][0]][16:]
    assert (dataset.origin.kind, dataset.origin.content, dataset.origin.folder) == ("official", "official", str(folder / place))
    assert dataset.origin.checksums["train_pixels"] == hashlib.sha256(gray[STEMS["train"][0]][16:]).hexdigest()
    assert dataset.origin.checksums["test_labels"] == hashlib.sha256(gray[STEMS["test"][1]][8:]).hexdigest()


def test_the_folder_is_no_part_of_an_origin(folder: Path, gray: dict[str, bytes]) -> None:
    put(gray, folder / "mnist")
    first = reading.read("mnist").origin
    shutil.move(folder / "mnist", folder / "MNIST/raw")
    second = reading.read("mnist").origin
    assert first == second
    assert first.folder != second.folder


def test_a_missing_file_of_a_set_is_named(folder: Path, gray: dict[str, bytes]) -> None:
    (put(gray, folder / "mnist") / "t10k-labels-idx1-ubyte.gz").unlink()
    with fails("t10k-labels-idx1-ubyte.gz is missing", "whole set"):
        reading.read("mnist")


def binary_files(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Small files in the official binary layout of CIFAR: content by file name."""
    label_bytes, classes = formats.CIFAR[name].label_bytes, 10 if name == "cifar10" else 100
    counts = (
        {"data_batch_1.bin": 400, "data_batch_2.bin": 200, "test_batch.bin": 100} if classes == 10 else {"train.bin": 600, "test.bin": 100}
    )
    small = formats.CifarLayout(f"{name}.tar.gz", "", label_bytes, counts)
    monkeypatch.setitem(formats.CIFAR, name, small)
    files, first = {}, 0
    for file, count in counts.items():
        number = np.arange(first, first + count)[:, None, None, None]
        plane, row, column = np.ogrid[:3, :32, :32]
        pixels = (number * 7 + plane * 50 + row * 3 + column * 5) % 256
        labels = np.stack([number.ravel() % 20, number.ravel() % classes], 1)[:, 2 - label_bytes :]
        files[file] = np.concatenate([labels, pixels.reshape(count, -1)], 1).astype(np.uint8).tobytes()
        first += count
    return files


def put_binary(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = folder / {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}[name]
    place.mkdir()
    for file, content in binary_files(name, monkeypatch).items():
        (place / file).write_bytes(content)
    return place


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_binary_version_of_cifar_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    put_binary(name, folder, monkeypatch)
    dataset = reading.read(name)
    assert dataset.train.pixels.shape == (600, 3, 32, 32)
    assert dataset.train.pixels.is_contiguous()
    assert dataset.train.labels.tolist() == [n % len(dataset.class_names) for n in range(600)]
    assert dataset.train.pixels[401, 1, 2, 3] == (401 * 7 + 50 + 6 + 15) % 256
    assert dataset.test.pixels[0, 2, 0, 0] == (600 * 7 + 100) % 256
    assert dataset.origin.kind == "official"
    assert dataset.origin.content == "official file sizes and class counts; no known checksum"
    by_image = dataset.train.pixels.permute(0, 2, 3, 1).contiguous().numpy().tobytes()
    assert dataset.origin.checksums["train_pixels"] == hashlib.sha256(by_image).hexdigest()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_class_names_are_the_official_ones(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    put_binary(name, folder, monkeypatch)
    names = reading.read(name).class_names
    assert len(names) == len(set(names)) == {"cifar10": 10, "cifar100": 100}[name]
    assert list(names) == sorted(names)


def test_other_class_names_are_as_many_as_classes(folder: Path, gray: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.IDX_MD5, "fashion_mnist", formats.IDX_MD5["mnist"])
    put(gray, folder / "mnist")
    put(gray, folder / "fashion-mnist")
    counts = {name: len(reading.read(name).class_names) for name in ("mnist", "fashion_mnist", "digits", "grammar")}
    assert counts == {"mnist": 10, "fashion_mnist": 10, "digits": 10, "grammar": 28}


# Bundles


@pytest.fixture
def colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """A small CIFAR-10; its source is gone again."""
    with monkeypatch.context() as patch:
        (tmp_path / "official").mkdir()
        patch.setenv("REPLICATION_DATA", str(tmp_path / "official"))
        put_binary("cifar10", tmp_path / "official", patch)
        return reading.read("cifar10")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sum_again(folder: Path) -> None:
    """Make the sums fit whatever the files hold now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != formats.SUMS)
    (folder / formats.SUMS).write_text("".join(f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files))


def same(a: Dataset, b: Dataset) -> bool:
    pairs = [(a.train, b.train), (a.test, b.test)]
    return all(torch.equal(x.pixels, y.pixels) and torch.equal(x.labels, y.labels) for x, y in pairs) and a.class_names == b.class_names


@pytest.mark.parametrize("name", reading.BUILT_IN)
def test_a_gray_bundle_reads_back(folder: Path, name: str) -> None:
    built_in = reading.read(name)
    assert reading.write_bundle(built_in, folder) == folder / name
    assert set(contents(folder)) == {"SHA256SUMS", *(f"{name}/{stem}.gz" for stems in STEMS.values() for stem in stems)}
    copy = reading.read(name)
    assert same(copy, built_in)
    assert (copy.origin.kind, copy.origin.content) == ("bundle", built_in.origin.content)
    assert copy.origin.checksums == built_in.origin.checksums


def test_a_colour_bundle_reads_back(folder: Path, colour: Dataset) -> None:
    assert reading.write_bundle(colour, folder) == folder / "cifar10"
    assert set(contents(folder)) == {"SHA256SUMS", *(f"cifar10/{split}{end}" for split in STEMS for end in (".npz", ".webp.bin"))}
    copy = reading.read("cifar10")
    assert same(copy, colour)
    assert copy.train.pixels.is_contiguous()
    assert copy.train.labels.dtype == torch.int64
    assert (copy.origin.kind, copy.origin.content) == ("bundle", colour.origin.content)
    assert copy.origin.checksums == colour.origin.checksums
    with np.load(folder / "cifar10/train.npz", allow_pickle=False) as index:
        assert len(index["offsets"]) == 3  # strips of 500 and 100 images
        assert str(index["content"]) == colour.origin.content


def test_a_bundle_in_pieces_reads_as_the_whole_one(folder: Path, colour: Dataset) -> None:
    place = reading.write_bundle(colour, folder, piece_bytes=200)
    assert not (place / "train.webp.bin").exists()
    pieces = sorted(place.glob("train.webp.bin.*"))
    assert [path.name[-3:] for path in pieces] == [f"{number:03}" for number in range(len(pieces))]
    assert max(path.stat().st_size for path in place.iterdir()) <= 200
    copy = reading.read("cifar10")
    assert same(copy, colour)
    assert copy.origin.checksums == colour.origin.checksums
    digits = reading.read("digits")
    reading.write_bundle(digits, folder, piece_bytes=500)
    assert same(reading.read("digits"), digits), "in many pieces"
    pieces[-1].unlink()
    with fails(f"{pieces[-1].name} is missing"):
        reading.read("cifar10")
    pieces[-1].write_bytes(b"other")
    with fails(pieces[-1].name, "damaged or was changed"):
        reading.read("cifar10")


def test_the_official_gray_files_can_be_bundled(folder: Path, gray: dict[str, bytes]) -> None:
    place = put(gray, folder / "MNIST/raw")
    original = reading.read("mnist")
    reading.write_bundle(original, folder)
    shutil.rmtree(place)
    assert same(reading.read("mnist"), original)
    assert reading.read("mnist").origin.content == "official"


def test_the_same_bundle_has_the_same_bytes(tmp_path: Path, colour: Dataset) -> None:
    for root in (tmp_path / "a", tmp_path / "b"):
        reading.write_bundle(colour, root)
        reading.write_bundle(reading.read("digits"), root)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_other_sets_stay_in_a_bundle(folder: Path, colour: Dataset) -> None:
    digits = reading.read("digits")
    reading.write_bundle(digits, folder)
    (folder / formats.SUMS).write_text((folder / formats.SUMS).read_text() + f"{'0' * 64}  cifar10/old.bin\n")
    reading.write_bundle(colour, folder)
    lines = (folder / formats.SUMS).read_text().splitlines()
    assert len(lines) == 8
    assert not any("old" in line for line in lines)
    assert same(reading.read("digits"), digits)
    assert same(reading.read("cifar10"), colour)


def test_a_bundle_that_states_no_content_is_described_by_its_index(folder: Path, colour: Dataset) -> None:
    place = reading.write_bundle(colour, folder)
    for split, lossy in (("train", 3), ("test", 2)):
        with np.load(place / f"{split}.npz") as archive:
            index = {key: archive[key] for key in ("offsets", "labels")}
        source = np.zeros(len(index["labels"]), np.uint8)
        source[:lossy] = 255
        np.savez(place / f"{split}.npz", **index, source=source)
    sum_again(folder)
    expected = "official order and labels; 3 train and 2 test images decoded from JPEG; no known checksum"
    assert reading.read("cifar10").origin.content == expected
    for split in STEMS:
        with np.load(place / f"{split}.npz") as archive:
            index = {key: archive[key] for key in ("offsets", "labels")}
        np.savez(place / f"{split}.npz", **index)
    sum_again(folder)
    assert reading.read("cifar10").origin.content == "subset: 60 train and 10 test images per class; no known checksum"


def test_a_bundle_needs_its_sums(folder: Path, colour: Dataset) -> None:
    reading.write_bundle(colour, folder)
    sums = folder / formats.SUMS
    listed = sums.read_text()
    sums.write_text("".join(line for line in listed.splitlines(keepends=True) if "test.webp.bin" not in line))
    with fails("SHA256SUMS does not list cifar10/test.webp.bin"):
        reading.read("cifar10")
    sums.write_text(listed.replace("  cifar10", ""))
    with fails("SHA256SUMS is damaged"):
        reading.read("cifar10")
    sums.unlink()
    with fails("SHA256SUMS is missing", "copy SHA256SUMS"):
        reading.read("cifar10")


@pytest.mark.parametrize("file", ["train.npz", "train.webp.bin", "test.npz", "test.webp.bin"])
def test_every_file_of_a_bundle_is_checked(folder: Path, colour: Dataset, file: str) -> None:
    place = reading.write_bundle(colour, folder)
    whole = (place / file).read_bytes()
    for damaged in (whole[:-5], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]):
        (place / file).write_bytes(damaged)
        with fails(file, "damaged or was changed", "download the data set again"):
            reading.read("cifar10")
    (place / file).unlink()
    with fails(f"{file} is missing"):
        reading.read("cifar10")


@pytest.mark.parametrize("labels", [np.full(100, 10), np.full(100, -1), np.zeros(99, int)])
def test_labels_must_fit_the_images(folder: Path, colour: Dataset, labels: np.ndarray) -> None:
    place = reading.write_bundle(colour, folder)
    with np.load(place / "test.npz") as archive:
        np.savez(place / "test.npz", **{**archive, "labels": labels})
    sum_again(folder)
    with fails("test part", "100 images", f"{len(labels)} labels", "0..9"):
        reading.read("cifar10")


def test_gray_images_that_are_not_official_are_not_bundled(folder: Path, colour: Dataset) -> None:
    digits = reading.read("digits")
    with fails("Only the official mnist can be bundled", "scikit-learn's digits"):
        reading.write_bundle(Dataset("mnist", digits.train, digits.test, digits.class_names, digits.origin), folder)
    changed = Dataset("digits", digits.test, digits.test, digits.class_names, digits.origin)
    with fails("does not read back as it was"):
        reading.write_bundle(changed, folder)
    assert contents(folder) == {}


def test_a_full_disk_leaves_the_old_bundle(folder: Path, colour: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reading.write_bundle(colour, folder)
    before = contents(folder)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with fails("disk is full", "cifar10", "nothing half-written remains"):
        reading.write_bundle(colour, folder)
    with fails("disk is full", "digits"):
        reading.write_bundle(reading.read("digits"), folder)
    assert contents(folder) == before


def test_a_closed_folder_cannot_be_written_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = reading.read("digits")
    if os.geteuid() == 0:  # root may write everywhere

        def closed(*arguments: object, **options: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "mkdir", closed)
    else:
        folder.chmod(0o500)
    with fails("Cannot write", "Permission denied", "make its folder writable"):
        reading.write_bundle(digits, folder)
    assert contents(folder) == {}


# Digits


def test_digits_are_divided_by_class() -> None:
    digits = reading.read("digits")
    assert digits.train.pixels.shape == (1437, 1, 8, 8)
    assert digits.test.pixels.shape == (360, 1, 8, 8)
    images, labels = load_digits(return_X_y=True)
    both = torch.cat([digits.train.pixels, digits.test.pixels]).reshape(-1, 64)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, np.rint(images / 16 * 255).astype(int).tolist()))
    share = 360 / 1797 * np.bincount(labels)
    assert (np.abs(digits.test.labels.bincount().numpy() - share) <= 1).all()
    assert digits.origin == reading.read("digits").origin
    assert "no known checksum" not in digits.origin.content
    assert (digits.origin.kind, digits.class_names) == ("package", tuple("0123456789"))


# Download, from a server on this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("REPLICATION_OFFLINE")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "served"))) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tmp_path / "served", f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()
        thread.join()


@pytest.fixture
def mirrors(server: tuple[Path, str], gray: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """MNIST's mirrors: one that is gone, one that lacks the files, one that serves the returned folder."""
    served, address = server
    official = import_torchvision().datasets.MNIST
    packed = {f"{name}.gz": gzip.compress(content) for name, content in gray.items()}
    (served / "good").mkdir()
    for name, content in packed.items():
        (served / "good" / name).write_bytes(content)
    monkeypatch.setattr(official, "mirrors", ["http://127.0.0.1:9/", f"{address}empty/", f"{address}good/"])
    monkeypatch.setattr(official, "resources", [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()])
    return served / "good"


def test_every_mirror_is_tried_and_the_download_is_found_again(mirrors: Path, gray: dict[str, bytes]) -> None:
    dataset = reading.read("mnist")
    assert dataset.origin.kind == "official"
    assert dataset.train.pixels.numpy().tobytes() == gray[STEMS["train"][0]][16:]
    assert reading.find("mnist") == Path("data/mnist")
    assert set(contents(Path("data"))) == {f"mnist/{name}.gz" for name in gray}


def test_a_wrong_checksum_at_the_download_leaves_nothing(mirrors: Path) -> None:
    (mirrors / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with fails("Cannot download mnist", "127.0.0.1:9", "empty/", "404", "good/", "corrupted", "set REPLICATION_DATA"):
        reading.read("mnist")
    assert contents(Path("data")) == {}


def test_no_network_names_the_next_step(mirrors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with fails("Cannot download mnist", "refused", "REPLICATION_DATA", "offline bundle", "--config scale=smoke"):
        reading.download("mnist", Path("data"))
    assert contents(Path("data")) == {}


def test_a_full_disk_is_not_taken_for_a_bad_mirror(mirrors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(import_torchvision().datasets.utils, "download_url", full)
    with fails("disk is full", "mnist"):
        reading.download("mnist", Path("data"))
    assert contents(Path("data")) == {}


def serve_archive(
    server: tuple[Path, str], name: str, monkeypatch: pytest.MonkeyPatch, *, evil: bool = False, cut: int | None = None
) -> None:
    served, address = server
    place = put_binary(name, served, monkeypatch)
    (place / "readme.html").write_text("about")
    archive = served / f"{name}.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(place, place.name)
        if evil:
            tar.add(place / "readme.html", "../evil.html")
    archive.write_bytes(archive.read_bytes()[:cut])
    small = formats.CIFAR[name]
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(formats.CIFAR, name, formats.CifarLayout(small.archive, md5, small.label_bytes, small.files))
    monkeypatch.setattr(reading, "remote_files", lambda name: [(small.archive, md5, [address + small.archive])])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_archive_is_unpacked_checked_and_known_as_official(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    serve_archive(server, name, monkeypatch)
    dataset = reading.read(name)
    assert dataset.train.pixels[401, 1, 2, 3] == (401 * 7 + 50 + 6 + 15) % 256
    assert (dataset.origin.kind, dataset.origin.content) == ("official", "official")
    place = Path(dataset.origin.folder)
    assert {path.name for path in place.iterdir()} == {*formats.CIFAR[name].files, formats.SUMS}
    assert reading.read(name, download=False).origin == dataset.origin
    first = place / next(iter(formats.CIFAR[name].files))
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with fails(first.name, "damaged or was changed"):
        reading.read(name, download=False)


def test_an_archive_that_leaves_its_folder_is_refused(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    serve_archive(server, "cifar10", monkeypatch, evil=True)
    with fails("cifar10.tar.gz cannot be unpacked safely"):
        reading.download("cifar10", Path("data"))
    assert not list(Path().rglob("evil*"))
    assert contents(Path("data")) == {}


def test_a_cut_archive_is_refused(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    serve_archive(server, "cifar10", monkeypatch, cut=2000)
    with fails("cifar10.tar.gz cannot be unpacked safely"):
        reading.download("cifar10", Path("data"))
    assert contents(Path("data")) == {}


@pytest.mark.parametrize(("name", "archive"), [("cifar10", "cifar-10-binary.tar.gz"), ("cifar100", "cifar-100-binary.tar.gz")])
def test_cifar_comes_from_its_authors_in_binary_form(name: str, archive: str) -> None:
    assert reading.remote_files(name) == [(archive, formats.CIFAR[name].md5, [f"https://www.cs.toronto.edu/~kriz/{archive}"])]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_gray_images_come_from_the_mirrors_of_torchvision(name: str) -> None:
    files = reading.remote_files(name)
    assert [file for file, _, _ in files] == [f"{stem}.gz" for stem in formats.IDX_FILES]
    assert all(urls and all(url.endswith(f"/{file}") for url in urls) for file, _, urls in files)


@pytest.mark.parametrize("name", reading.BUILT_IN)
def test_what_is_built_in_needs_no_download(name: str) -> None:
    with fails(f"nothing to download for '{name}'"):
        reading.download(name, Path("data"))
    assert reading.remote_files(name) == []


# The real data


def real(name: str, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    if not REAL.is_dir():
        pytest.skip("neither REPLICATION_DATA nor ../shared/data is there")
    monkeypatch.setenv("REPLICATION_DATA", str(REAL))
    if reading.find(name) is None:
        pytest.skip(f"{name} is neither in REPLICATION_DATA nor in ../shared/data")
    return reading.read(name)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_gray_images_are_the_official_ones(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    dataset = real(name, monkeypatch)
    assert dataset.origin.content == "official"
    assert dataset.train.pixels.shape == (60_000, 1, 28, 28)
    assert dataset.test.pixels.shape == (10_000, 1, 28, 28)


def test_real_cifar10_has_its_known_pixel_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = real("cifar10", monkeypatch)
    if dataset.origin.kind == "bundle" and dataset.origin.content != "official":
        assert dataset.origin.content == "official order and labels; 81 train and 23 test images decoded from JPEG"
        assert dataset.origin.checksums["train_pixels"] == "10d94edc57bf6b034670d5061cb6ac228cfc0fd07d5ba6ba4082883c4999a6d6"
        assert dataset.origin.checksums["test_pixels"] == "4674ac8c77f372061aaf9216c8857c99599d5df0bb9f6b16a3de613ef8eb348a"
    assert dataset.train.labels.bincount().tolist() == [5000] * 10
    assert dataset.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]


def test_real_cifar100_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = real("cifar100", monkeypatch)
    counts = dataset.train.labels.bincount()
    if len(dataset.train.labels) == 10_000:
        assert dataset.origin.content == "subset: 100 train and 20 test images per class"
    assert len(counts) == 100
    assert len(set(counts.tolist())) == 1
