"""What happens to a machine: a folder that is closed, a disk that is full, a kill at any moment, two runs at once.

The last two start Snakemake and are left out by default: ``python -m pytest -n 0 -m calamity tests/test_calamities.py``.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import copy_project
from conftest import ROOT

SMALL_FILES = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"
PREPARE = """import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from replication.cli import main
main(['data', 'digits', '--out', '{1}'])
"""


def environment(**others: str) -> dict[str, str]:
    return os.environ | {"REPLICATION_DATA": "", "REPLICATION_OFFLINE": "1"} | others


def prepare(limit: int, out: Path) -> subprocess.CompletedProcess[str]:
    code = (SMALL_FILES + PREPARE).format(limit, out)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment())


def test_a_file_that_may_not_grow_is_a_sentence_and_nothing_is_half_written(tmp_path: Path) -> None:
    """The limit on sizes of files refuses a write in its middle, as a full disk does, and needs no disk."""
    for limit in (1000, 100_000):
        ended = prepare(limit, tmp_path / "digits.safetensors")
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"Error: Cannot write {tmp_path}/digits.safetensors")
        assert ended.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_a_sentence_and_nothing_is_half_written(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        ended = prepare(2**30, tmp_path / "digits.safetensors")
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"Error: The disk is full while writing {tmp_path}/digits.safetensors; nothing half-written remains")
        assert ended.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder is closed to root by a read-only mount, which needs root")
def test_data_are_read_from_a_read_only_folder_and_writing_there_is_a_sentence(tmp_path: Path) -> None:
    code = "from replication.data import sources; sources.write_bundle(sources.read('digits'), {!r})"
    subprocess.run([sys.executable, "-c", code.format(str(tmp_path / "data"))], cwd=ROOT, check=True, env=environment())
    before = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path / "closed")]
    (tmp_path / "closed").mkdir()
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        shutil.copytree(tmp_path / "data", tmp_path / "closed", dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "closed")], check=True)
        command = [sys.executable, "-m", "replication", "data", "digits", "--out"]
        named = environment(REPLICATION_DATA=str(tmp_path / "closed"))
        ended = subprocess.run([*command, str(tmp_path / "x.safetensors")], cwd=ROOT, capture_output=True, text=True, env=named)
        assert ended.returncode == 0, ended.stderr
        ended = subprocess.run([*command, str(tmp_path / "closed/x")], cwd=ROOT, capture_output=True, text=True, env=named)
        assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
        assert "Read-only file system" in ended.stderr
        assert {path.relative_to(tmp_path / "closed") for path in (tmp_path / "closed").rglob("*") if path.is_file()} == {
            path.relative_to(tmp_path / "data") for path in before
        }
    finally:
        subprocess.run(["umount", str(tmp_path / "closed")], check=True)


# Slow: Snakemake itself


def start(project: Path, figure: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "snakemake", f"figure_{figure}", "--cores", "1", *options, "--config", "scale=smoke"]
    return subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), start_new_session=True
    )


def tables_of(project: Path) -> dict[str, bytes]:
    """What is measured, quantified and drawn; not the records, which hold times."""
    files = [path for ending in ("csv", "svg", "npy", "safetensors") for path in project.glob(f"results/**/*.{ending}")]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


@pytest.mark.calamity
@pytest.mark.parametrize("figure", ["lca_toy", "lca_layers"])
def test_a_storm_of_kills_ends_with_the_same_tables_and_two_undisturbed_runs_agree(tmp_path: Path, figure: str) -> None:
    """Five times everything that runs is killed (SIGKILL) at a random moment; a second run at the same time is refused in words."""
    undisturbed = copy_project(tmp_path / "undisturbed", [figure])
    began = time.monotonic()
    first = start(undisturbed, figure)
    said = first.communicate()[0]
    took = time.monotonic() - began
    assert first.returncode == 0, said
    stormy, moments, killed = copy_project(tmp_path / "stormy", [figure]), random.Random(0), 0
    for number in range(5):
        process = start(stormy, figure, "--rerun-incomplete")
        time.sleep(moments.uniform(0.1, 0.4) * took)
        if number == 0 and process.poll() is None:
            second = start(stormy, figure)
            refusal = second.communicate()[0]
            assert second.returncode != 0
            assert "cannot be locked" in refusal
            assert "Traceback" not in refusal
        if process.poll() is None:  # what is left to do after some kills may be done already
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        shutil.rmtree(stormy / ".snakemake/locks", ignore_errors=True)  # what `snakemake --unlock` does
    last = start(stormy, figure, "--rerun-incomplete")
    said = last.communicate()[0]
    assert last.returncode == 0, said
    assert killed >= 3
    found, expected = tables_of(stormy), tables_of(undisturbed)
    assert found.keys() == expected.keys()
    assert not [name for name in expected if found[name] != expected[name]], "bit for bit"
    assert not list(stormy.glob("results/**/.*.tmp")), "nothing half-written is left"
    print(f"\n{killed} kills; {len(expected)} files identical; undisturbed {took:.0f} s")
