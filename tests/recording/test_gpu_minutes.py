"""`profiles/gpu.sh` at smoke scale without a GPU: cut off, carried to another place, and continued to the end."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import ROOT

from replication.recording import archives

WANTED = ["landscape/tables/resnet56/seed0", "landscape/tables/resnet56_noshort/seed0", "lca/tables/resnet20_layers/seed0"]


def project(place: Path) -> Path:
    place.mkdir()
    for part in ("figures", "replication", "paper_configs", "profiles"):
        (place / part).symlink_to(ROOT / part)
    return place


def start(place: Path, into: Path, minutes: float) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "WORK": str(place / "work"), "SCALE": "smoke"}
    environment |= {"REPLICATION_DATA": "", "REPLICATION_OFFLINE": "1"}
    command = ["bash", "profiles/gpu.sh", str(into), str(minutes), str(place)]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def test_cut_off_and_continued_elsewhere_it_ends_with_all_tables(tmp_path: Path) -> None:
    first, second = project(tmp_path / "first"), project(tmp_path / "second")
    process = start(first, tmp_path / "out", 30)
    deadline = time.monotonic() + 600
    while not archives.packed(tmp_path / "out", "tables"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert archives.folders(tmp_path / "out/tables-000.zip"), "what was finished before the cut came back"
    shutil.rmtree(first)

    process = start(second, tmp_path / "out", 30)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    finished = [folder for path in archives.packed(tmp_path / "out", "tables") for folder in archives.folders(path)]
    assert sorted(finished) == [f"smoke/{folder}" for folder in WANTED]
    assert (tmp_path / "out/gpu_tests.txt").is_file()
    assert len(list((tmp_path / "out").iterdir())) <= 8, "few enough files to carry"
