"""Splits partition, random labels keep class counts, prepared files come back as they were, and mistakes name what is allowed."""

import contextlib
import errno
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from replication.data import Dataset, Examples, Experiment
from replication.data import examples as data
from replication.data.sources import reading
from replication.errors import ReplicationError
from replication.files.provenance import read_provenance, write_provenance

REAL = Path(os.environ.get("REPLICATION_DATA") or ROOT / "../shared/data").resolve()
LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=120).map(lambda values: torch.tensor(values, dtype=torch.int64))
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, no data set in sight, and no network."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv("REPLICATION_DATA", raising=False)
    monkeypatch.setenv("REPLICATION_OFFLINE", "1")
    return tmp_path / "work"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))  # where no search folder holds other digits
        patch.delenv("REPLICATION_DATA", raising=False)
        return reading.read("digits")


def fails(*words: str) -> contextlib.AbstractContextManager[object]:
    """One sentence that holds the words in order."""
    return pytest.raises(ReplicationError, match=r"(?s)\A[^\n]*" + "[^\n]*".join(map(re.escape, words)) + r"[^\n]*\.\Z")


def drawn(count: st.DataObject, highest: int) -> int:
    return count.draw(st.integers(0, highest))


# Prepared files


def test_a_prepared_file_comes_back_as_it_was(work: Path, digits: Dataset) -> None:
    data.prepare("digits", work / "out/digits.safetensors")
    loaded = data.load(work / "out/digits.safetensors")
    for one, other in ((loaded.train, digits.train), (loaded.test, digits.test)):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)
        assert one.pixels.is_contiguous()
        assert (one.pixels.dtype, one.labels.dtype) == (torch.uint8, torch.int64)
    assert (loaded.name, loaded.class_names) == ("digits", digits.class_names)
    assert loaded.origin == digits.origin
    assert loaded.origin.folder == digits.origin.folder
    record = read_provenance(work / "out/digits.safetensors.provenance.json")
    assert (record["kind"], record["name"], list(record["files"])) == ("data", "digits", ["digits.safetensors"])
    assert record["origin"]["checksums"] == digits.origin.checksums
    assert {path.name for path in (work / "out").iterdir()} == {"digits.safetensors", "digits.safetensors.provenance.json"}


def test_the_same_data_set_has_the_same_bytes_wherever_it_was_found(work: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("one", "two"):
        reading.write_bundle(digits, work / place)
        monkeypatch.setenv("REPLICATION_DATA", str(work / place))
        data.prepare("digits", work / f"{place}.safetensors")
    assert (work / "one.safetensors").read_bytes() == (work / "two.safetensors").read_bytes()
    assert data.load(Path("one.safetensors")).origin == data.load(Path("two.safetensors")).origin


def test_a_missing_truncated_or_changed_file_is_named(work: Path) -> None:
    path = work / "digits.safetensors"
    with fails("digits.safetensors.provenance.json is missing"):
        data.load(path)
    data.prepare("digits", path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with fails("digits.safetensors was changed or damaged"):
            data.load(path)
    path.unlink()
    with fails("digits.safetensors is missing"):
        data.load(path)


def test_a_foreign_file_is_named(work: Path) -> None:
    path, tensor = work / "x.safetensors", torch.zeros(2, 1, 3, 3, dtype=torch.uint8)

    def foreign() -> contextlib.AbstractContextManager[object]:
        write_provenance(work / "x.safetensors.provenance.json", {"origin": {"folder": ""}}, [path])
        return fails("x.safetensors is not a prepared data set", "delete it and its provenance and run again")

    path.write_text("some text")
    with foreign():
        data.load(path)
    save_file({"weight": tensor}, path)
    with foreign():
        data.load(path)
    save_file({"train_pixels": tensor}, path, metadata={"dataset": "{}"})
    with foreign():
        data.load(path)
    save_file({"train_pixels": tensor}, path, metadata={"dataset": "no JSON"})
    with foreign():
        data.load(path)
    (work / "other").write_text("")
    write_provenance(work / "x.safetensors.provenance.json", {}, [work / "other"])
    with fails("x.safetensors is not a prepared data set"):
        data.load(path)


def test_a_full_disk_leaves_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((os, "fsync"), (Path, "write_bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            with fails("disk is full", "digits.safetensors"):
                data.prepare("digits", work / "digits.safetensors")
        assert list(work.iterdir()) == []


# Whether a data set can be had


@pytest.mark.parametrize("name", reading.BUILT_IN)
def test_what_is_built_in_is_always_available(name: str) -> None:
    assert data.available(name)


def test_a_found_data_set_is_available_without_network(work: Path) -> None:
    assert not data.available("mnist")
    (work / "data/mnist").mkdir(parents=True)
    (work / "data/mnist/train-images-idx3-ubyte.gz").write_bytes(b"")
    assert data.available("mnist")


def be_hosted_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address for the files of every data set; an answer is remembered for each host, so a test needs hosts of its own."""
    monkeypatch.setattr(reading, "remote_files", lambda name: [(name, "", [url])])


def test_a_host_that_answers_makes_a_data_set_available(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        be_hosted_at(f"http://127.0.0.1:{server.getsockname()[1]}/cifar", monkeypatch)
        assert not data.available("cifar10")
        monkeypatch.delenv("REPLICATION_OFFLINE")
        assert data.available("cifar10")


def test_no_network_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATION_OFFLINE", "0")
    asked = []

    def unreachable(address: tuple[str, int], timeout: float) -> socket.socket:
        asked.append((address, timeout))
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    be_hosted_at("https://secure.invalid/a", monkeypatch)
    assert not data.available("cifar100")
    assert not data.available("cifar10")
    assert asked == [(("secure.invalid", 443), 2)], "each host is asked once"
    be_hosted_at("http://plain.invalid/a", monkeypatch)
    assert not data.available("mnist")
    assert asked[1:] == [(("plain.invalid", 80), 2)]


def test_wrong_names_are_not_taken_for_absent_data(monkeypatch: pytest.MonkeyPatch) -> None:
    with fails("'imagenet'", "mnist, fashion_mnist"):
        data.available("imagenet")
    monkeypatch.setenv("REPLICATION_DATA", "nowhere")
    with fails("REPLICATION_DATA"):
        data.available("mnist")


# Splits and subsets


@given(LABELS, st.data(), SEEDS, st.sampled_from(["random", "stratified"]))
@settings(deadline=None, max_examples=60)
def test_a_split_is_a_partition_in_order(labels: torch.Tensor, count: st.DataObject, seed: int, method: data.Split) -> None:
    validation_count = drawn(count, len(labels) - 1)
    training, validation = data.split(labels, validation_count, seed=seed, method=method)
    assert len(validation) == validation_count
    assert sorted([*training.tolist(), *validation.tolist()]) == list(range(len(labels)))
    for indices in (training, validation):
        assert indices.dtype == torch.int64
        assert (indices.diff() > 0).all()
    again = data.split(labels, validation_count, seed=seed, method=method)
    assert torch.equal(again[1], validation)


@given(LABELS, st.data(), SEEDS)
@settings(deadline=None, max_examples=60)
def test_a_subset_keeps_class_proportions_within_one(labels: torch.Tensor, count: st.DataObject, seed: int) -> None:
    size = drawn(count, len(labels))
    indices = data.subset(labels, size, seed=seed)
    assert len(indices) == size
    assert (indices.diff() > 0).all()
    sizes = labels.bincount(minlength=7)
    assert ((labels[indices].bincount(minlength=7) - sizes * size / len(labels)).abs() < 1).all()


def test_equal_classes_stay_equal() -> None:
    labels = torch.arange(10).repeat(30)
    assert labels[data.subset(labels, 50, seed=3)].bincount().tolist() == [5] * 10
    assert labels[data.split(labels, 100, seed=3, method="stratified")[1]].bincount().tolist() == [10] * 10


def test_the_random_split_is_the_one_of_the_lca_paper() -> None:
    validation = data.split(torch.zeros(60_000, dtype=torch.int64), 5_000, seed=0)[1]
    np.random.seed(0)
    assert validation.tolist() == sorted(np.random.choice(60_000, 5_000, replace=False).tolist())


def test_other_seeds_give_other_examples() -> None:
    labels = torch.arange(10).repeat(30)
    for method in ("random", "stratified"):
        assert not torch.equal(data.split(labels, 50, seed=0, method=method)[1], data.split(labels, 50, seed=1, method=method)[1])
    assert not torch.equal(data.subset(labels, 50, seed=0), data.subset(labels, 50, seed=1))


def test_impossible_splits_and_subsets_name_what_is_allowed() -> None:
    labels = torch.arange(10)
    for count in (-1, 10, 11):
        with fails(f"validation is {count}", "0 to 9"):
            data.split(labels, count, seed=0)
    for count in (-1, 11):
        with fails(f"examples is {count}", "0 to 10"):
            data.subset(labels, count, seed=0)
    with fails("'sorted'", "'random' and 'stratified'"):
        data.split(labels, 3, seed=0, method="sorted")  # type: ignore[arg-type]
    for seed in (-1, 2**32):
        with fails(f"seed is {seed}", "0 to 4294967295"):
            data.split(labels, 3, seed=seed)
    assert data.subset(labels[:0], 0, seed=0).tolist() == []


# Random labels


@given(LABELS, SEEDS, st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_random_labels_keep_class_counts(labels: torch.Tensor, seed: int, fraction: float) -> None:
    before = labels.clone()
    noisy = data.random_labels(labels, seed=seed, fraction=fraction)
    assert noisy.bincount(minlength=7).tolist() == labels.bincount(minlength=7).tolist()
    assert int((noisy != labels).sum()) <= round(fraction * len(labels))
    assert torch.equal(labels, before)


def test_random_labels_are_right_by_chance_only() -> None:
    labels = torch.arange(10).repeat(1000)
    for fraction in (0.0, 0.5, 1.0):
        right = (data.random_labels(labels, seed=0, fraction=fraction) == labels).float().mean()
        assert right == pytest.approx(1 - 0.9 * fraction, abs=0.02)
    assert not torch.equal(data.random_labels(labels, seed=0), data.random_labels(labels, seed=1))
    for fraction in (-0.1, 1.1, float("nan")):
        with fails(f"label_noise is {fraction}", "0 to 1"):
            data.random_labels(labels, seed=0, fraction=fraction)


# Images


@pytest.fixture
def pixels() -> torch.Tensor:
    random = np.random.RandomState(0)
    return torch.from_numpy(random.randint(0, 200, (40, 3, 12, 12)).astype(np.uint8))


def test_unit_pixels_are_divided_by_255(pixels: torch.Tensor) -> None:
    before = pixels.clone()
    images = data.normalise(pixels, "unit")
    assert images.dtype == torch.float32
    assert torch.equal(images, pixels.float() / 255)
    assert torch.equal(pixels, before)


def test_standardised_images_have_mean_zero_and_variance_one_in_each_channel(pixels: torch.Tensor) -> None:
    pixels[:, 1] //= 3
    images = data.normalise(pixels, "standardise").double()
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(images.var((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-6)


def test_statistics_come_from_the_reference(pixels: torch.Tensor) -> None:
    reference, others = pixels[:30], pixels[30:]
    images = data.normalise(others, "standardise", reference=reference)
    unit = reference.double() / 255
    mean, std = unit.mean((0, 2, 3)), unit.std((0, 2, 3), correction=0)
    expected = (others.double() / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.allclose(images.double(), expected, atol=1e-6)
    assert torch.allclose(data.normalise(others, (mean.tolist(), std.tolist())), images, atol=1e-6)


def test_images_are_contiguous_whatever_the_pixels_are(pixels: torch.Tensor) -> None:
    for layout in (pixels[:, :1].expand(-1, 3, -1, -1), pixels.to(memory_format=torch.channels_last), pixels.permute(0, 1, 3, 2)):
        for how in ("unit", "standardise"):
            assert data.normalise(layout, how).is_contiguous()
            assert torch.equal(data.normalise(layout, how), data.normalise(layout.contiguous(), how))


def test_impossible_normalisations_name_what_is_allowed(pixels: torch.Tensor) -> None:
    with fails("'zca'", "'unit', 'standardise'"):
        data.normalise(pixels, "zca")  # type: ignore[arg-type]
    for pair in (([0.5], [0.5]), ([0.5] * 3, [0.5, 0.5]), ([0.5] * 3, [0.5, 0.0, 0.5])):
        with fails("normalisation", "3 of each and every std above 0"):
            data.normalise(pixels, pair)
    with fails("every std above 0"):
        data.normalise(torch.full_like(pixels, 7), "standardise")


def test_resize_is_the_identity_at_the_same_size_and_on_constants(pixels: torch.Tensor) -> None:
    assert data.resize(pixels, 12) is pixels
    for size in (5, 28):
        resized = data.resize(torch.full_like(pixels, 93), size)
        assert resized.dtype == torch.uint8
        assert torch.equal(resized, torch.full((40, 3, size, size), 93, dtype=torch.uint8))
    assert data.resize(pixels[:0], 5).shape == (0, 3, 5, 5)
    with fails("image_size is 0", "from 1"):
        data.resize(pixels, 0)


@pytest.mark.parametrize("size", [7, 28])
def test_resize_agrees_with_pillow(pixels: torch.Tensor, size: int) -> None:
    resized = data.resize(pixels, size)
    for image, expected in zip(pixels[:5, 0], resized[:5, 0], strict=True):
        ours = np.asarray(Image.fromarray(image.numpy()).resize((size, size), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(ours - expected.numpy()).max() <= 1


# Experiments


def parts(experiment: Experiment) -> list[Examples]:
    return [experiment.train, experiment.validation, experiment.test]


def test_an_experiment_divides_the_training_part(digits: Dataset) -> None:
    experiment = data.assemble(digits, validation=100, split_seed=7)
    assert [len(part.labels) for part in parts(experiment)] == [1337, 100, 360]
    assert experiment.classes == 10
    training, validation = data.split(digits.train.labels, 100, seed=7)
    assert torch.equal(experiment.train.images, digits.train.pixels[training].float() / 255)
    assert torch.equal(experiment.validation.labels, digits.train.labels[validation])
    assert torch.equal(experiment.test.images, digits.test.pixels.float() / 255)
    for part in parts(experiment):
        assert part.images.is_contiguous()
        assert (part.images.dtype, part.labels.dtype) == (torch.float32, torch.int64)


def test_no_validation_is_an_empty_part(digits: Dataset) -> None:
    experiment = data.assemble(digits, image_size=16, channels=3, normalisation="standardise")
    assert [part.images.shape for part in parts(experiment)] == [(1437, 3, 16, 16), (0, 3, 16, 16), (360, 3, 16, 16)]
    assert all(part.images.is_contiguous() for part in parts(experiment))


def test_the_subset_is_taken_from_what_the_split_left(digits: Dataset) -> None:
    experiment = data.assemble(digits, validation=100, split="stratified", examples=200, subset_seed=5)
    training, _ = data.split(digits.train.labels, 100, seed=0, method="stratified")
    chosen = training[data.subset(digits.train.labels[training], 200, seed=5)]
    assert torch.equal(experiment.train.labels, digits.train.labels[chosen])
    assert torch.equal(experiment.train.images, digits.train.pixels[chosen].float() / 255)


def test_labels_are_random_in_the_training_part_only(digits: Dataset) -> None:
    true = data.assemble(digits, validation=100)
    noisy = data.assemble(digits, validation=100, label_noise=1.0, label_seed=3)
    assert torch.equal(noisy.train.labels, data.random_labels(true.train.labels, seed=3))
    assert not torch.equal(noisy.train.labels, true.train.labels)
    for one, other in zip(parts(noisy)[1:], parts(true)[1:], strict=True):
        assert torch.equal(one.labels, other.labels)
    assert torch.equal(noisy.train.images, true.train.images)


def test_statistics_come_from_the_training_part_alone(digits: Dataset) -> None:
    experiment = data.assemble(digits, validation=400, examples=300, normalisation="standardise", image_size=12)
    assert experiment.train.images.double().mean() == pytest.approx(0, abs=1e-6)
    assert experiment.train.images.double().var(correction=0) == pytest.approx(1, abs=1e-6)
    assert abs(float(experiment.validation.images.mean())) > 1e-5
    given_pair = data.assemble(digits, normalisation=([0.25], [0.5]))
    assert torch.allclose(given_pair.test.images, (digits.test.pixels.float() / 255 - 0.25) / 0.5)


def test_an_experiment_is_a_function_of_its_arguments(digits: Dataset) -> None:
    settings_used = {"validation": 100, "examples": 300, "label_noise": 0.3, "normalisation": "standardise"}
    before = digits.train.pixels.clone()
    torch.manual_seed(1)
    first = data.assemble(digits, **settings_used)  # type: ignore[arg-type]
    torch.manual_seed(2)
    np.random.seed(2)
    second = data.assemble(digits, **settings_used)  # type: ignore[arg-type]
    for one, other in zip(parts(first), parts(second), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
    assert torch.equal(digits.train.pixels, before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation": 1437}, ["validation is 1437", "0 to 1436"]),
        ({"validation": -1}, ["validation is -1", "0 to 1436"]),
        ({"validation": 437, "examples": 1001}, ["examples is 1001", "0 to 1000"]),
        ({"examples": 0}, ["examples is 0", "1 to 1437"]),
        ({"examples": -5}, ["examples is -5", "1 to 1437"]),
        ({"split": "sorted"}, ["'sorted'", "'random' and 'stratified'"]),
        ({"split_seed": -1}, ["seed is -1", "0 to 4294967295"]),
        ({"label_noise": 2.0}, ["label_noise is 2.0", "0 to 1"]),
        ({"image_size": 0}, ["image_size is 0", "from 1"]),
        ({"channels": 0}, ["channels is 0", "gray"]),
        ({"normalisation": "zca"}, ["'zca'", "'unit', 'standardise'"]),
        ({"normalisation": ([0.5, 0.5], [0.5, 0.5])}, ["1 of each"]),
    ],
)
def test_impossible_experiments_name_what_is_allowed(digits: Dataset, options: dict[str, object], words: list[str]) -> None:
    with fails(*words):
        data.assemble(digits, **options)  # type: ignore[arg-type]


def test_colours_are_not_turned_into_something_else(digits: Dataset, pixels: torch.Tensor) -> None:
    part = reading.Images(pixels, torch.arange(40) % 10)
    coloured = Dataset("cifar10", part, part, digits.class_names, digits.origin)
    assert data.assemble(coloured, channels=3).train.images.shape == (40, 3, 12, 12)
    with fails("channels is 1", "allowed is 3"):
        data.assemble(coloured, channels=1)


# The real data


def test_real_mnist_is_divided_as_in_the_lca_paper(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL.is_dir():
        pytest.skip("neither REPLICATION_DATA nor ../shared/data is there")
    monkeypatch.setenv("REPLICATION_DATA", str(REAL))
    if reading.find("mnist") is None:
        pytest.skip("mnist is neither in REPLICATION_DATA nor in ../shared/data")
    data.prepare("mnist", work / "mnist.safetensors")
    dataset = data.load(work / "mnist.safetensors")
    experiment = data.assemble(dataset, validation=5000, split_seed=0)
    assert [part.images.shape for part in parts(experiment)] == [(55_000, 1, 28, 28), (5_000, 1, 28, 28), (10_000, 1, 28, 28)]
    assert (experiment.train.images.min(), experiment.train.images.max()) == (0, 1)
    assert dataset.origin.content == "official"
