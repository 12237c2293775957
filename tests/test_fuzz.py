"""Whatever is done to a file that is read: it is read correctly, or one sentence says what is wrong, and nothing is half-written.

Bytes are cut, flipped, emptied and replaced, first as an accident would (the sums beside the files find it), then as a stranger could,
who makes the sums fit. What comes out is compared with what the undamaged file gives.
"""

import ast
import copy
import gzip
import io
import json
import re
import shutil
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from verdict_entries import ENTRY, PLACE

from replication import claims
from replication.claims.results import read_quantities
from replication.data import examples as data
from replication.data.sources import Dataset, formats, reading
from replication.errors import ReplicationError
from replication.files.atomic import atomic, sha256, write_json
from replication.files.provenance import PROVENANCE, provenance_file, read_provenance, write_provenance
from replication.files.tables import read_tables, write_tables
from replication.pipeline import configs, steps
from replication.recording import archives, keep, queue
from replication.schema.papers import PaperConfig

settings.register_profile("fuzz", derandomize=True, deadline=None, database=None, max_examples=120)
FUZZ = settings.get_profile("fuzz")
RAW = configs.read(ROOT / "paper_configs/stiffness.yaml")
TRIED: Counter[str] = Counter()
REFUSED: Counter[str] = Counter()
SENTENCE = re.compile(r"[^\n]+\.")
HOSTILE = (
    *(
        "../x",
        "/x",
        "..",
        ".",
        "",
        "a/b",
        "a b",
        "; rm -rf x",
        "$(touch x)",
        "`touch x`",
        "a'b",
        'a"b',
        "a\nb",
        "a\n",
        "-rf",
        "{seed}",
        "%s",
    ),
    *("A", "ä", "名", "\u202etxt", "x" * 5000, "~", "*", "a\\b", "a|b", "a&b", "1a", "a\0b"),
)


def tried(kind: str, call: Callable[[], Any]) -> Any:
    """The result of ``call``, or None where it ended with one sentence; anything else that it raises fails the test."""
    TRIED[kind] += 1
    try:
        return call()
    except ReplicationError as error:
        said = str(error)
    assert SENTENCE.fullmatch(said), repr(said)
    REFUSED[kind] += 1
    return None


@pytest.fixture(scope="module", autouse=True)
def count() -> Iterator[None]:
    """How many bad inputs were tried, by kind; a property that silently stopped trying anything would show here."""
    yield
    print("\nBad inputs tried (of them refused with a sentence; the others read as they are):")
    for kind, number in TRIED.items():
        print(f"  {kind}: {number} ({REFUSED[kind]})")
    print(f"  together: {sum(TRIED.values())} ({sum(REFUSED.values())})")
    assert min(TRIED.values(), default=0) >= 5


def damaged(content: bytes, seed: int = 0, *, cuts: int = 12, flips: int = 30) -> Iterator[bytes]:
    """Nothing, another kind of file, ``content`` cut at many places, with single bits flipped, and with runs of zeros."""
    random = np.random.RandomState(seed)
    yield from (b"", b"\0", b"PK\x03\x04", b"\x80\x04]\x94.", b"{}", b"\xff" * 100, content[::-1], content + b"\0", content * 2)
    yield from (content[:cut] for cut in {1, len(content) - 1, *random.randint(0, len(content), cuts).tolist()})
    for place in [*range(min(8, len(content))), *random.randint(0, len(content), flips)]:
        yield content[:place] + bytes([content[place] ^ 1 << random.randint(8)]) + content[place + 1 :]
    for place in random.randint(0, len(content), flips // 5):
        yield content[:place] + bytes(len(content[place : place + 9])) + content[place + 9 :]


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Names that become folders, targets and arguments of commands


@pytest.mark.parametrize("place", ["runs", "measurements", "figures"])
def test_a_hostile_name_in_a_configuration_is_refused_before_any_job(tmp_path: Path, place: str) -> None:
    for name in HOSTILE:
        entries = dict(RAW[place])
        entries[name] = entries.pop(next(iter(entries)))
        with pytest.raises(ReplicationError, match=SENTENCE.pattern) as raised:
            configs.parse(RAW | {place: entries}, "full", Path("stiffness.yaml"))
        assert place in str(raised.value)
        TRIED["hostile names"] += 1
        REFUSED["hostile names"] += 1


COSTS = {"core_minutes": 3, "core_minutes_are": "measured", "gpu_minutes": 1, "gpu_minutes_are": "estimated"}


def test_a_hostile_name_of_a_file_quantity_claim_or_queue_entry_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "paper_configs/stiffness.yaml").read_bytes()
    for name in HOSTILE:
        if name and "/" not in name and "\0" not in name and len(name.encode()) < 200 and name not in (".", ".."):
            (tmp_path / f"{name}.yaml").write_bytes(text)
            assert tried("hostile names", lambda: configs.load("full", tmp_path)) is None, name
            (tmp_path / f"{name}.yaml").unlink()
        entry = {"paper": name, "measurements": [name], **COSTS}
        (tmp_path / configs.QUEUE).write_text(json.dumps({"queue": [entry]}))
        assert tried("hostile names", lambda: queue.load(tmp_path)) is None
        claim = {"id": f"LCA-{name}", "quantity": name}
        assert tried("hostile names", lambda c=claim: _claim_of(c)) is None


def _claim_of(changes: dict[str, Any]) -> PaperConfig:
    raw = copy.deepcopy(RAW)
    figure = next(iter(raw["figures"].values()))
    figure["claims"][0] |= changes
    return configs.parse(raw, "full", Path("stiffness.yaml"))


def test_every_value_that_the_workflow_puts_into_a_command_is_bound_to_safe_characters() -> None:
    text = (ROOT / "Snakefile").read_text()
    bound = dict(re.findall(r'^    (\w+)="([^"]+)",$', text.split("wildcard_constraints:")[1].split("\n\n")[0], re.MULTILINE))
    used = set(re.findall(r"{wildcards\.(\w+)", text)) | set(re.findall(r"{(\w+)}", "".join(re.findall(r'"(results/[^"]*)"', text))))
    assert used - {"REQUESTED", "dataset", "name"} <= set(bound) | {"ending"}
    for pattern in bound.values():
        assert not any(
            re.fullmatch(pattern, name)
            for name in HOSTILE
            if name not in ("1a",) and not (name.isalnum() and name.isascii() and name.islower())
        ), pattern


# Configurations


SMALL = yaml.safe_dump({**RAW, "figures": dict([*RAW["figures"].items()][:1])}, sort_keys=False)
VALUES = st.sampled_from(
    [
        ".nan",
        ".inf",
        "-.inf",
        "1e999",
        "9" * 5000,
        "0x" + "f" * 400,
        "2026-13-45",
        "!!binary x",
        "!!set {a}",
        "!!omap [a: 1]",
        "&x [*x]",
        "*y",
        "? [a]: b",
    ]
    + [
        "!!python/object/apply:os.system [ls]",
        "!!timestamp 1",
        "[" * 3000,
        "{" * 3000,
        "~",
        "''",
        "\x00",
        "\u2028",
        "\ufeff",
        "- - - -",
        "<<: 1",
        "a: b: c",
    ]
    + [json.dumps(name) for name in HOSTILE]
)


@settings(FUZZ, max_examples=30)
@given(line=st.integers(0, SMALL.count("\n") - 1), value=VALUES)
def test_any_value_in_any_line_loads_or_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, line: int, value: str) -> None:
    lines = SMALL.split("\n")
    lines[line] = lines[line].partition(":")[0] + ": " + value
    path = tmp_path_factory.mktemp("config") / "stiffness.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    tried("configurations", lambda: configs.parse(configs.read(path), "full", path))


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 40))]
    (tmp_path / "lca.yaml").write_text("\n".join(lines))
    with pytest.raises(ReplicationError, match=r"lca.yaml is not valid YAML: with its aliases written out it has \d+ values"):
        configs.load("full", tmp_path)


def test_a_damaged_lock_is_a_sentence(tmp_path: Path) -> None:
    raw = {"LCA-X1": {"id": "LCA-X1", "quantity": "x"}}
    path = tmp_path / claims.LOCK
    claims.lock_new(raw, path)
    claims.amend("LCA-X1", raw["LCA-X1"], path, reason="because", results_seen=False)
    whole = path.read_bytes()
    wrong = [b"[]", b"3", b'"x"', b"null", b'{"LCA-X1": []}', b'{"LCA-X1": {}}', whole.replace(b'"sha256"', b'"sha257"'), b"9" * 5000]
    for content in [*wrong, *damaged(whole, cuts=30, flips=200)]:
        path.write_bytes(content)
        for call in (lambda: claims.check_lock(raw, path), lambda: claims.amendments(path), lambda: claims.lock_new(raw, path)):
            tried("claims.lock", call)
        path.write_bytes(content)
        tried("claims.lock", lambda: claims.amend("LCA-X1", raw["LCA-X1"], path, reason="because", results_seen=True))
        assert [each.name for each in tmp_path.iterdir()] == [claims.LOCK]


def test_a_damaged_queue_is_a_sentence(tmp_path: Path) -> None:
    whole = f"queue:\n- {json.dumps({'paper': 'lca', 'measurements': ['mnist_fc_lca'], **COSTS})}\n".encode()
    for content in [*damaged(whole, cuts=40, flips=200), b"queue: {}", b"queue: [[]]", b"queue: [{core_minutes: .nan}]", b"- queue"]:
        (tmp_path / configs.QUEUE).write_bytes(content)
        tried("queue.yaml", lambda: queue.load(tmp_path))


# Records, tables, verdicts, parts


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A folder of one table with its record."""
    import pandas as pd

    folder = tmp_path / "tables"
    table = pd.DataFrame({"step": range(5), "layer": list("abcde"), "loss": np.linspace(0, 1, 5)})
    write_tables(folder, {"log": table}, {"seed": 3, "created": "2026-01-01T00:00:00+00:00", "trainings": [{"run": "a"}]})
    return folder


def test_a_damaged_record_or_table_reads_as_it_was_or_is_a_sentence(tables: Path) -> None:
    """The record bears its own sum: a flipped bit in a seed would otherwise be believed."""
    record, table = read_provenance(tables / PROVENANCE), read_tables(tables)["log"]
    for name in (PROVENANCE, "log.csv"):
        whole = (tables / name).read_bytes()
        for content in damaged(whole, cuts=60, flips=300):
            (tables / name).write_bytes(content)
            found = tried("records and tables", lambda: read_provenance(tables / PROVENANCE))
            assert found is None or {key: found[key] for key in record} == record
            read = tried("records and tables", lambda: read_tables(tables))
            assert read is None or read["log"].equals(table)
        (tables / name).write_bytes(whole)


def test_tables_of_a_stranger_are_tables_or_a_sentence(tables: Path) -> None:
    strange = [
        b'"',
        b"a,a\n1,2",
        b"\0",
        b"a\n" + b"9" * 5000,
        b'a\n"' + b"x" * 10,
        b"\xef\xbb\xbfa\n1",
        b"a\r\r\n1",
        b",,,\n",
        b"a\n1\n\n\n",
    ]
    for content in [*strange, *damaged((tables / "log.csv").read_bytes(), cuts=20, flips=60)]:
        (tables / "log.csv").write_bytes(content)
        write_provenance(tables / PROVENANCE, {"seed": 3}, [tables / "log.csv"])
        tried("records and tables", lambda: read_tables(tables))
    for name in (*HOSTILE, "../../etc/passwd"):
        write_json(tables / PROVENANCE, {"seed": 3, "files": {name: "0" * 64}})
        assert tried("records and tables", lambda: read_provenance(tables / PROVENANCE)) is None


def test_damaged_verdicts_are_shown_or_are_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from replication.claims import page, report

    path = tmp_path / "a.verdicts.json"
    whole = json.dumps(PLACE | {"verdicts": [ENTRY]}).encode()
    wrong = [json.dumps(PLACE | {"verdicts": value}).encode() for value in (3, [3], [[]], [{}], {}, None, [ENTRY | {"outcome": "x"}])]
    wrong += [
        json.dumps(PLACE | {"verdicts": [ENTRY | {key: value}]}).encode() for key in ENTRY for value in (None, [], {}, "x", float("nan"))
    ]
    for content in [*wrong, *damaged(whole, cuts=20, flips=80)]:
        path.write_bytes(content)
        tried("verdicts", lambda: report.show_claims([path]))
        written = tried("verdicts", lambda: page.write([path], tmp_path / "claims.html") or True)
        assert (tmp_path / "claims.html").exists() == bool(written)
        (tmp_path / "claims.html").unlink(missing_ok=True)
    capsys.readouterr()


@pytest.mark.parametrize("sealed", [False, True])
def test_damaged_quantities_and_parts_are_a_sentence(tmp_path: Path, sealed: bool) -> None:
    """``sealed``: as a stranger could leave them, with sums that fit."""
    numbers, part = tmp_path / "x.quantities.csv", tmp_path / "0.npz"
    numbers.write_text("quantity,seed,value\na,0,1.5\na,1,nan\nb,0,2\n")
    np.savez_compressed(part, layer=np.array(["a", "b"]), lca=np.linspace(0, 1, 50))
    about = {"trainings": [], "seconds": 1.0, "seed": 0}
    write_provenance(tmp_path / "x.provenance.json", {}, [numbers])
    write_provenance(provenance_file(part), about, [part])
    for content in [b"quantity,seed\n", b"quantity,seed,value\na,x,1\n", *damaged(numbers.read_bytes())]:
        numbers.write_bytes(content)
        if sealed:
            write_provenance(tmp_path / "x.provenance.json", {}, [numbers])
        tried("quantities and parts", lambda: read_quantities(numbers))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr(
            "a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }".ljust(127) + b"\n"
        )
    pickled = io.BytesIO()
    np.savez(pickled, a=np.array([{"a": 1}], dtype=object))
    for content in [bomb.getvalue(), pickled.getvalue(), *damaged(part.read_bytes(), cuts=20, flips=150)]:
        part.write_bytes(content)
        if sealed:
            write_provenance(provenance_file(part), about, [part])
        tried("quantities and parts", lambda: _collected(part))


def _collected(part: Path) -> Any:
    read_provenance(provenance_file(part))
    return steps.read_part(part)


# Data sets


@pytest.fixture
def place(search_folder: Path) -> Path:
    """No data but what a test puts there."""
    return search_folder


def small(name: str) -> Dataset:
    """Twenty training and ten test images of 4 x 4 pixels."""
    random = np.random.RandomState(0)
    splits = {s: (random.randint(0, 256, (n, 3, 4, 4)).astype(np.uint8), np.arange(n) % 10) for s, n in (("train", 20), ("test", 10))}
    return reading._dataset(name, splits, "bundle", "nowhere", "made up")


def same(found: Dataset | None, as_written: Dataset) -> bool:
    return found is None or found.origin.checksums == as_written.origin.checksums


@pytest.mark.parametrize("kind", ["strips", "idx"])
def test_a_damaged_bundle_reads_as_it_was_or_is_a_sentence(place: Path, kind: str) -> None:
    dataset = small("cifar10") if kind == "strips" else reading.read("digits")
    folder = reading.write_bundle(dataset, place)
    for path in [place / formats.SUMS, *sorted(folder.iterdir())]:
        whole = path.read_bytes()
        for content in damaged(whole, cuts=8, flips=20):
            path.write_bytes(content)
            assert same(tried(f"bundles ({kind})", lambda: reading.read(dataset.name)), dataset)
        path.write_bytes(whole)
    assert same(reading.read(dataset.name), dataset)


@pytest.mark.parametrize("kind", ["strips", "idx"])
def test_a_bundle_of_a_stranger_is_read_or_is_a_sentence(place: Path, kind: str) -> None:
    """Its sums fit; what is read has uint8 images and labels of its classes."""
    dataset = small("cifar10") if kind == "strips" else reading.read("digits")
    folder = reading.write_bundle(dataset, place)
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        strange = [gzip.compress(content) for content in damaged(gzip.decompress(whole), cuts=5, flips=10)] if kind == "idx" else []
        for content in [*strange, *damaged(whole, cuts=10, flips=80 if path.suffix == ".npz" else 15)]:
            path.write_bytes(content)
            _make_sums_fit(place, folder)
            found = tried(f"bundles ({kind})", lambda: reading.read(dataset.name))
            for part in (found.train, found.test) if found else ():
                assert part.pixels.dtype == torch.uint8
                assert len(part.pixels) == len(part.labels)
        path.write_bytes(whole)


def _make_sums_fit(root: Path, folder: Path) -> None:
    formats.write_sums(root / formats.SUMS, {path.relative_to(root).as_posix(): sha256(path) for path in folder.iterdir()})


INDEXES: dict[str, dict[str, Any]] = {
    "no offsets": {"labels": np.zeros(20, np.uint8)},
    "backwards": {"offsets": np.array([0, 900, 5])},
    "negative": {"offsets": np.array([-5, 0])},
    "fractions": {"offsets": np.array([0.0, 0.5])},
    "not a number": {"offsets": np.array([0.0, np.nan])},
    "one": {"offsets": np.array(3)},
    "none": {"offsets": np.zeros(0, int)},
    "square": {"offsets": np.zeros((2, 2), int)},
    "words": {"offsets": np.array(["0", "a"])},
    "labels in words": {"labels": np.array(["a"] * 20)},
    "labels in fractions": {"labels": np.full(20, 0.5)},
    "labels not numbers": {"labels": np.full(20, np.nan)},
    "labels complex": {"labels": np.full(20, 1j)},
    "labels square": {"labels": np.zeros((20, 2), np.uint8)},
    "one label": {"labels": np.array(3)},
    "dates": {"labels": np.zeros(20, "datetime64[s]")},
    "sources in words": {"source": np.array(["a"])},
    "records": {"labels": np.zeros(20, [("a", int)])},
}


@pytest.mark.parametrize("case", INDEXES)
def test_an_index_that_makes_no_sense_is_a_sentence(place: Path, case: str) -> None:
    folder = reading.write_bundle(small("cifar10"), place)
    with np.load(folder / "train.npz", allow_pickle=False) as archive:
        index = {key: archive[key] for key in archive if key != "content"}
    np.savez(
        folder / "train.npz", **{key: value for key, value in (index | INDEXES[case]).items() if case != "no offsets" or key != "offsets"}
    )
    _make_sums_fit(place, folder)
    assert tried("bundles (strips)", lambda: reading.read("cifar10")) is None or case == "sources in words"


def test_data_that_unpack_to_much_more_are_refused_before_they_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_MOST", 10_000)
    (place / "bomb.gz").write_bytes(gzip.compress(bytes(10_001)))
    with pytest.raises(ReplicationError, match="unpacks to more than 10000 bytes"):
        formats.read_bytes(place / "bomb.gz", gunzip=True)
    folder = reading.write_bundle(small("cifar10"), place)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ReplicationError, match="decompression bomb"):
        formats.read_strips(folder, "train")


def test_damaged_official_files_are_a_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = formats.CifarLayout("a.tar.gz", "", 1, {"data_batch_1.bin": 20, "test_batch.bin": 10})
    monkeypatch.setitem(formats.CIFAR, "cifar10", layout)
    folder = place / "cifar-10-batches-bin"
    folder.mkdir()
    rows = np.random.RandomState(0).randint(0, 256, (30, 3073)).astype(np.uint8)
    rows[:, 0] = np.arange(30) % 10
    for file, part in (("data_batch_1.bin", rows[:20]), ("test_batch.bin", rows[20:])):
        (folder / file).write_bytes(part.tobytes())
    formats.write_sums(folder / formats.SUMS, {file: sha256(folder / file) for file in layout.files})
    as_written = reading.read("cifar10")
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for content in damaged(whole):
            path.write_bytes(content)
            assert same(tried("CIFAR", lambda: reading.read("cifar10")), as_written)
        path.write_bytes(whole)


def test_prepared_data_reads_as_it_was_or_is_a_sentence(place: Path) -> None:
    path = place / "digits.safetensors"
    data.prepare("digits", path)
    as_written = data.load(path)
    for file in (path, place / "digits.safetensors.provenance.json"):
        whole = file.read_bytes()
        for content in damaged(whole, cuts=20, flips=60):
            file.write_bytes(content)
            assert same(tried("prepared data", lambda: data.load(path)), as_written)
        file.write_bytes(whole)
    about = {"name": "digits", "class_names": [], "origin": {}}
    one = {name: torch.zeros(1, dtype=torch.uint8) for name in ("train_pixels", "train_labels", "test_pixels", "test_labels")}
    header = struct.pack("<Q", 1 << 60)
    strange = [save(one), save(one, {"dataset": "["}), save(one, {"dataset": "[]"}), save(one, {"dataset": json.dumps(about)}), save({})]
    for content in [header, header + b"{}", *strange, save(one, {"dataset": json.dumps(about | {"origin": []})})]:
        path.write_bytes(content)
        write_provenance(place / "digits.safetensors.provenance.json", {"origin": {"folder": ""}}, [path])
        assert tried("prepared data", lambda: data.load(path)) is None


# Archives


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """An archive as `replicate record` writes it."""
    for seed in range(2):
        folder = tmp_path / f"root/full/lca/tables/x/seed{seed}"
        folder.mkdir(parents=True)
        for name in ("a.csv", "b.csv"):
            (folder / name).write_bytes(bytes(range(40)) + b"0,1\n" * 50)
        write_provenance(folder / PROVENANCE, {"seed": seed}, [folder / "a.csv", folder / "b.csv"])
    archives.add(tmp_path / "packed", "tables", tmp_path / "root", [f"full/lca/tables/x/seed{seed}" for seed in range(2)])
    return tmp_path / "packed/tables-000.zip"


def test_a_damaged_archive_gives_whole_folders_or_a_sentence(packed: Path, tmp_path: Path) -> None:
    whole, right, out = packed.read_bytes(), files_below(tmp_path / "root"), tmp_path / "place/out"
    for content in damaged(whole, cuts=30, flips=150):
        packed.write_bytes(content)
        tried("archives (zip)", lambda: archives.extract(packed, out))
        found = files_below(tmp_path / "place")
        for folder in {name.rpartition("/")[0] for name in found}:
            assert re.fullmatch(r"out/full/lca/\w+/\w/seed\d+", folder), "a bit of a name may be flipped, but it is a place for results"
        for name, content_found in found.items():
            assert right.get(name.removeprefix("out/"), content_found) == content_found
        shutil.rmtree(tmp_path / "place", ignore_errors=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["packed", "root"]


INSIDE = "full/lca/tables/x/seed0/"


@pytest.mark.parametrize("name", [*(INSIDE + name for name in HOSTILE if name not in ("A", "1a")), *HOSTILE])
def test_an_archive_with_hostile_names_leaves_nothing(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(INSIDE + "a.csv", "1")
        archive.writestr(zipfile.ZipInfo(name), "2")
    assert tried("archives (zip)", lambda: archives.extract(tmp_path / "a.zip", tmp_path / "out")) is None or "\0" in name
    if "\0" not in name:  # where the name ends for zipfile
        assert not files_below(tmp_path / "out")
    assert {each.name for each in tmp_path.iterdir()} <= {"a.zip", "out"}


def test_links_and_bombs_in_an_archive_stay_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = zipfile.ZipInfo(INSIDE + "a.csv")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    tried("archives (zip)", lambda: archives.extract(tmp_path / "link.zip", tmp_path / "out"))
    assert not (tmp_path / "out" / INSIDE / "a.csv").is_symlink()
    monkeypatch.setattr(archives, "UNPACKED_LIMIT", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(11):
            archive.writestr(f"{INSIDE}{number}.csv", bytes(1000))
    assert tried("archives (zip)", lambda: archives.extract(tmp_path / "bomb.zip", tmp_path / "other")) is None
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    for sized in re.finditer(struct.pack("<L", 1000), bytes(content)):  # a header that says less than there is
        content[sized.start() : sized.end()] = struct.pack("<L", 10)
    (tmp_path / "lie.zip").write_bytes(content)
    assert tried("archives (zip)", lambda: archives.extract(tmp_path / "lie.zip", tmp_path / "other")) is None
    assert not files_below(tmp_path / "other")


def test_a_record_of_a_stranger_is_kept_or_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ROOT / "recorded/lca/mnist_fc_lca/seed0"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("replication.pipeline.dag.RECORDED_FOLDER", tmp_path / "recorded")
    folder = tmp_path / "from/full/lca/tables/mnist_fc_lca/seed0"
    shutil.copytree(source, folder)
    record = json.loads((folder / PROVENANCE).read_text())
    record.pop("sha256", None)
    changes = [{key: value} for key in record for value in (None, -1, "x", [{}])]
    deeper = [
        {"trainings": [record["trainings"][0] | {key: value}]} for key in ("run", "seed", "config") for value in (None, 3, "x", [], {})
    ]
    config = record["trainings"][0]["config"]
    deepest = [{"trainings": [record["trainings"][0] | {"config": config | {key: value}}]} for key in config for value in ([], {"x": 1})]
    for change in [*changes, *deeper, *deepest]:
        write_json(folder / PROVENANCE, record | change)
        kept = tried("records of strangers", lambda: keep.keep([tmp_path / "from"]))
        assert bool(kept) == (tmp_path / "recorded").exists()
        shutil.rmtree(tmp_path / "recorded", ignore_errors=True)


def tar_of(*members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("inner/a.bin", "inner/b.bin"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


TAR = {
    "outside": [member("../evil")],
    "absolute": [member("/tmp/evil_of_the_test")],  # noqa: S108 - it is refused
    "link outside": [member("inner/c", tarfile.SYMTYPE, "../../evil")],
    "link and through it": [member("inner/c", tarfile.SYMTYPE, ".."), member("inner/c/../../evil")],
    "hard link outside": [member("inner/c", tarfile.LNKTYPE, "../../evil")],
    "device": [member("inner/c", tarfile.CHRTYPE)],
    "pipe": [member("inner/c", tarfile.FIFOTYPE)],
    "file as folder": [member("inner/a.bin/c")],
    "folder as file": [member("inner", tarfile.REGTYPE)],
}


@pytest.mark.parametrize("case", [*TAR, "damaged"])
def test_a_hostile_or_damaged_tar_writes_nothing_elsewhere(tmp_path: Path, case: str) -> None:
    contents = damaged(tar_of(), cuts=40, flips=200) if case == "damaged" else [tar_of(*TAR[case])]
    for content in contents:
        target = tmp_path / "place/target"

        def unpacked(content: bytes = content, target: Path = target) -> bool:
            with atomic(target, folder=True) as temporary:  # as `reading.download` does
                (temporary / "official.tar.gz").write_bytes(content)
                formats.unpack(temporary / "official.tar.gz", "inner", ["a.bin", "b.bin"])
            return True

        if tried("archives (tar)", unpacked):
            assert {"a.bin", "b.bin"} <= {path.name for path in target.iterdir()}
        else:
            assert not (tmp_path / "place").exists()
        shutil.rmtree(tmp_path / "place", ignore_errors=True)
        assert not list(tmp_path.iterdir())


# Nothing is unpickled, nothing goes through a shell but the rules


def test_nothing_is_unpickled_and_no_shell_is_started() -> None:
    """In every program of the project; YAML goes through a SafeLoader, arrays through np.load, whose default refuses objects."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls = {"torch.load", "os.system", "os.popen", "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load", "subprocess.getoutput"}
    for path in [path for folder in ("replication", "figures", "examples", "docs", "benchmarks") for path in (ROOT / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {(getattr(node, "module", None) or "").split(".")[0]}
                assert not names & forbidden, path
            if isinstance(node, ast.Call):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                only_weights = ast.unparse(node.func) == "torch.load" and given.get("weights_only") == "True"
                assert only_weights or ast.unparse(node.func) not in calls, f"{path}:{node.lineno}"
                assert given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
                assert given.get("shell", "False") == "False", f"{path}:{node.lineno}"
                assert ast.unparse(node.func) != "yaml.load" or given["Loader"] == "UniqueKeyLoader"
    assert issubclass(configs.UniqueKeyLoader, yaml.CSafeLoader | yaml.SafeLoader)


def test_a_trajectory_that_would_have_to_be_unpickled_is_refused(tmp_path: Path) -> None:
    from replication.training.checkpoints import load_row

    np.save(tmp_path / "trajectory.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"[Pp]ickle|object"):
        load_row(torch.nn.Linear(1, 1), tmp_path, 0)
    write_provenance(tmp_path / PROVENANCE, {"seed": 0}, [tmp_path / "trajectory.npy"])
    whole = (tmp_path / "trajectory.npy").read_bytes()
    for content in damaged(whole):
        (tmp_path / "trajectory.npy").write_bytes(content)
        if content != whole:
            assert tried("trajectories", lambda: read_provenance(tmp_path / PROVENANCE)) is None, "before anything is measured"
