import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from replication.errors import ReplicationError
from replication.files.atomic import atomic, canonical_json, read_json, sha256, write_json
from replication.files.provenance import PROVENANCE, collect_provenance, read_provenance, write_provenance
from replication.files.tables import read_tables, write_tables

TABLE = pd.DataFrame({"step": [0, 1], "loss": [0.5, 0.25]})


def fails(*words: str) -> contextlib.AbstractContextManager[object]:
    """One sentence that holds the words in order."""
    return pytest.raises(ReplicationError, match=r"(?s)\A[^\n]*" + "[^\n]*".join(map(re.escape, words)) + r"[^\n]*\.\Z")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def full(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# Atomic writing


def test_a_file_takes_its_name_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new/deep/file.txt"
    with atomic(path) as temporary:
        temporary.write_text("content")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "content"
    assert names(tmp_path) == {"new", "new/deep", "new/deep/file.txt"}


def test_a_folder_takes_its_name_only_at_the_end(tmp_path: Path) -> None:
    with atomic(tmp_path / "folder", folder=True) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner/file.txt").write_text("content")
        assert not (tmp_path / "folder").exists()
    assert names(tmp_path) == {"folder", "folder/inner", "folder/inner/file.txt"}


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), ReplicationError("fix it.")])
@pytest.mark.parametrize("folder", [False, True])
def test_an_exception_inside_leaves_what_was_there(tmp_path: Path, folder: bool, error: BaseException) -> None:
    def write(content: str, failure: BaseException | None = None) -> None:
        with atomic(tmp_path / "result", folder=folder) as temporary:
            (temporary / "file" if folder else temporary).write_text(content)
            if failure:
                raise failure

    with pytest.raises(type(error)):
        write("new", error)
    assert names(tmp_path) == set()
    write("old")
    with pytest.raises(type(error)):
        write("new", error)
    assert names(tmp_path) == ({"result", "result/file"} if folder else {"result"})
    assert (tmp_path / "result/file" if folder else tmp_path / "result").read_text() == "old"


@pytest.mark.parametrize("before", ["file", "folder"])
def test_a_folder_replaces_all_that_was_there(tmp_path: Path, before: str) -> None:
    if before == "file":
        (tmp_path / "result").write_text("a file of this name")
    else:
        (tmp_path / "result/deep").mkdir(parents=True)
        (tmp_path / "result/deep/old").write_text("old")
    with atomic(tmp_path / "result", folder=True) as temporary:
        (temporary / "new").write_text("new")
    assert names(tmp_path) == {"result", "result/new"}


def test_a_folder_being_replaced_is_never_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with atomic(tmp_path / "result", folder=True) as temporary:
        (temporary / "old").write_text("old")
    remove, seen = shutil.rmtree, []

    def watched(path: Path) -> None:
        seen.append(path.name)
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", watched)
    with atomic(tmp_path / "result", folder=True) as temporary:
        (temporary / "new").write_text("new")
    assert "result" not in seen
    assert names(tmp_path) == {"result", "result/new"}


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left, others = [".x.17.tmp", ".x.18.old.tmp"], [".x.json.17.tmp", ".xx.17.tmp", ".x.tmp", "x.json", ".x.a.tmp"]
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    for name in others:
        (tmp_path / name).write_text("of another writer")
    with atomic(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == {"x", *others}


def test_characters_of_patterns_in_a_name_are_no_patterns(tmp_path: Path) -> None:
    (tmp_path / ".[a].17.tmp").write_text("left by a killed writer of [a]")
    (tmp_path / ".a.17.tmp").write_text("of another writer")
    with atomic(tmp_path / "[a]") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == {"[a]", ".a.17.tmp"}


@pytest.mark.parametrize("folder", [False, True])
def test_a_parent_that_is_a_file_is_one_sentence(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "parent").write_text("a file")
    for path in (tmp_path / "parent/result", tmp_path / "parent/deep/result"):
        with fails(f"Cannot write {path}", "make its folder writable and run again"), atomic(path, folder=folder):
            pytest.fail("the block was entered")
    assert names(tmp_path) == {"parent"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("function", ["fsync", "replace", "mkdir"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, function, fail)
    with (
        fails("The disk is full while writing", "folder", "free space and run again"),
        atomic(tmp_path / "folder", folder=True) as temporary,
    ):
        (temporary / "file").write_text("content")
    monkeypatch.undo()
    assert names(tmp_path) == set()


def test_a_disk_that_fills_up_inside_the_block_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with fails("The disk is full while writing", "tables", "nothing half-written remains"):
        write_tables(tmp_path / "tables", {"log": TABLE}, {})
    monkeypatch.setattr(Path, "write_text", full)
    with fails("The disk is full while writing", "x.json"):
        write_json(tmp_path / "x.json", {})
    assert names(tmp_path) == set()


KILLED = """
import sys, time
from pathlib import Path
from replication.files.atomic import atomic
with atomic(Path(sys.argv[1]), folder=True) as temporary:
    (temporary / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_no_result_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "result")], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
    assert not (tmp_path / "result").exists()
    assert names(tmp_path) == {f".result.{writer.pid}.tmp", f".result.{writer.pid}.tmp/half"}
    with atomic(tmp_path / "result", folder=True) as temporary:
        (temporary / "whole").write_text("whole")
    assert names(tmp_path) == {"result", "result/whole"}


# JSON and records

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=JSON)
def test_json_reads_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        write_json(tmp_path / "x.json", {"loss": [value]})
    assert names(tmp_path) == set()


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1, 2.5]}) == canonical_json({"a": [1, 2.5], "b": 1}) == '{"a":[1,2.5],"b":1}'


def recorded(folder: Path) -> Path:
    write_tables(folder, {"log": TABLE, "weights": TABLE}, {"seed": 3})
    return folder


def forge(folder: Path, content: bytes) -> None:
    """Replace a table and make its sum fit."""
    (folder / "log.csv").write_bytes(content)
    write_provenance(folder / PROVENANCE, {}, [folder / "log.csv"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "log.csv").write_text("step,loss\n0,0.6\n"), ["log.csv was changed or damaged", "sha256", "run again"]),
        (lambda folder: (folder / "log.csv").write_bytes((folder / "log.csv").read_bytes()[:-1]), ["log.csv was changed or damaged"]),
        (lambda folder: (folder / "log.csv").unlink(), ["log.csv is missing though provenance.json names it", "run again"]),
        (lambda folder: (folder / PROVENANCE).unlink(), ["provenance.json is missing", "--forcerun"]),
        (lambda folder: (folder / PROVENANCE).write_bytes((folder / PROVENANCE).read_bytes()[:-3]), ["provenance.json is not valid JSON"]),
        (lambda folder: (folder / PROVENANCE).write_bytes(b"\xff\xfe"), ["provenance.json is not valid JSON"]),
        (lambda folder: (folder / PROVENANCE).write_text("[" * 100_000), ["provenance.json is not valid JSON"]),
        (lambda folder: (folder / PROVENANCE).write_text("[1, 2]"), ["provenance.json is not a provenance (it names no files)"]),
        (lambda folder: (folder / PROVENANCE).write_text('{"seed": 1}'), ["provenance.json is not a provenance (it names no files)"]),
        (lambda folder: (folder / PROVENANCE).write_text('{"files": ["log.csv"]}'), ["provenance.json is not a provenance"]),
        (lambda folder: (folder / PROVENANCE).write_text('{"files": {"log.csv": 1}}'), ["provenance.json is not a provenance"]),
        (lambda folder: ((folder / PROVENANCE).unlink(), (folder / PROVENANCE).mkdir()), ["provenance.json cannot be read", "directory"]),
        (lambda folder: forge(folder, b""), ["log.csv is not a table", "run again"]),
        (lambda folder: forge(folder, b"a\n1,2\n1,2,3\n"), ["log.csv is not a table"]),
        (lambda folder: forge(folder, b"a,b\n\xff,1\n"), ["log.csv is not a table"]),
    ],
    ids=[
        *("changed table", "cut table", "missing table", "missing record", "cut record", "binary record", "deep record", "list"),
        *("no files", "files without sums", "sums of a wrong type", "record is a folder", "empty table", "ragged table", "binary table"),
    ],
)
def test_damage_is_one_sentence(tmp_path: Path, damage: Callable[[Path], object], words: list[str]) -> None:
    folder = recorded(tmp_path / "tables")
    damage(folder)
    with fails(*words):
        read_tables(folder)


def test_a_record_can_be_read_without_its_files(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "tables")
    (folder / "log.csv").unlink()
    assert read_provenance(folder / PROVENANCE, check=False)["seed"] == 3


def test_a_record_holds_the_sum_of_every_file(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "tables")
    assert read_provenance(folder / PROVENANCE)["files"] == {name: sha256(folder / name) for name in ("log.csv", "weights.csv")}


def test_provenance_says_what_made_a_result() -> None:
    made = collect_provenance(kind="run", seed=3)
    assert (made["kind"], made["seed"]) == ("run", 3)
    assert made["versions"]["numpy"] == np.__version__
    assert re.fullmatch(r"[0-9a-f]{40}(\+dirty)?|unknown", made["commit"])
    assert made["processor"]
    json.dumps(made, allow_nan=False)


# Tables

FLOATS = st.floats(width=64) | st.sampled_from([np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1 + 0.2])


@given(values=arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(1, 3)), elements=FLOATS))
def test_tables_read_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("tables") / "seed0"
    table = pd.DataFrame(values, columns=[f"column_{k}" for k in range(values.shape[1])])
    write_tables(folder, {"log": table}, {})
    read = read_tables(folder)["log"]
    assert list(read) == list(table)
    assert set(read.dtypes) == {np.dtype(np.float64)}
    found = read.to_numpy()
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))
    np.testing.assert_array_equal(found[~np.isnan(found)].view(np.int64), values[~np.isnan(values)].view(np.int64))


def test_tables_keep_names_whole_numbers_and_text(tmp_path: Path) -> None:
    table = pd.DataFrame({"layer": ["fc1.weight", "fc1, bias"], "count": [2**62 + 1, -3]})
    write_tables(tmp_path / "tables", {"layers": table, "log": TABLE}, {})
    read = read_tables(tmp_path / "tables")
    pd.testing.assert_frame_equal(read["layers"], table)
    assert list(read) == ["layers", "log"]


def test_the_same_tables_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        recorded(tmp_path / name)
    for file in (PROVENANCE, "log.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
