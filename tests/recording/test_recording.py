"""`replicate record`: killed and continued it ends with the same bytes; archives travel; what is kept was checked."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from replication.data import sources
from replication.data.sources import formats
from replication.errors import ReplicationError
from replication.files.provenance import PROVENANCE, read_provenance
from replication.pipeline import configs, dag, steps
from replication.recording import archives, keep, queue
from replication.recording import session as recording

LCA = {"scale": "smoke", "paper": "lca"}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's code and configurations and nothing else."""
    for part in ("figures", "replication"):
        (tmp_path / part).symlink_to(ROOT / part)
    shutil.copytree(ROOT / "paper_configs", tmp_path / "paper_configs")
    lca = tmp_path / "paper_configs/lca.yaml"
    lca.write_text(
        lca.read_text().replace("run: mnist_fc_no_momentum}", "run: mnist_fc_no_momentum, spans: {full: 1, reduced: 1, smoke: 3}}")
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPLICATION_DATA", "")
    monkeypatch.setenv("REPLICATION_OFFLINE", "1")
    return tmp_path


def queue_of(*measurements: str) -> None:
    """A queue of one seed of each."""
    write_queue(configs.FOLDER, *({"paper": "lca", "measurements": [name], "seeds": 1} for name in measurements))


def write_queue(folder: Path, *entries: dict[str, object]) -> None:
    """A queue of these entries, which cost a minute where they do not say."""
    costs = {"core_minutes": 1, "core_minutes_are": "flops", "gpu_minutes": 1, "gpu_minutes_are": "estimated"}
    (folder / configs.QUEUE).write_text(yaml.safe_dump({"queue": [costs | entry for entry in entries]}))


def contents(folder: Path) -> dict[str, bytes]:
    """Tables by name; their record tells time and process."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != PROVENANCE}


def trained(root: Path, run: str, *, stop_after: float = float("inf")) -> Path:
    """The prepared digits, and a network trained on them, where the recorder has them."""
    digits, folder = root / "data/digits.safetensors", root / f"smoke/lca/runs/{run}/seed0"
    if not digits.exists():
        steps.data.prepare("digits", digits)
    steps.train_run(**LCA, run=run, seed=0, data_file=digits, folder=folder, threads=1, stop_after=stop_after)
    return folder


def test_killed_at_any_moment_and_continued_it_ends_with_the_same_bytes(checkout: Path) -> None:
    name = "mnist_fc_no_momentum"
    queue_of(f"{name}_lca")
    folder = trained(checkout / "plain", name)
    measurement: dict[str, Any] = {**LCA, "measurement": f"{name}_lca", "seed": 0}
    parts = [checkout / f"plain/{part}.npz" for part in range(3)]
    for part, out in enumerate(parts):
        digits = [checkout / "plain/data/digits.safetensors"]
        steps.measure_part(**measurement, part=part, run_folders=[folder], data_files=digits, out=out, threads=1)
    steps.gather_seed(**LCA, measurement=f"{name}_lca", parts=parts, folder=checkout / "plain/tables")

    root = checkout / "DIR/work"
    command = [sys.executable, "-m", "replication", "record", "--scale", "smoke", "--minutes", "60", "--jobs", "1", "--into", "DIR"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for moment in (f"runs/{name}/seed0/trajectory.partial.npy", f"parts/{name}_lca/seed0/0.npz"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        wait_for((root / "smoke/lca" / moment).exists)
        assert process.poll() is None, f"ended before {moment}"
        assert 19 in priorities_of_children(process.pid), "others may use the machine"
        process.kill()
        process.wait()
        wait_for(lambda: all(map(is_free, (root / "logs").glob("*.lock"))))  # its jobs end with it
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 finished now, 0 of 1 left" in ended.stdout
    assert contents(root / f"smoke/lca/tables/{name}_lca/seed0") == contents(checkout / "plain/tables")
    record = read_provenance(root / f"smoke/lca/tables/{name}_lca/seed0/provenance.json")
    assert record["device"].startswith("cpu")
    assert record["seconds"] > 0
    assert not list(root.glob("smoke/*/runs/*/seed*")), "nothing will read the trajectories again"
    assert archives.folders(checkout / "DIR/tables-000.zip") == [f"smoke/lca/tables/{name}_lca/seed0"]


def priorities_of_children(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [os.getpriority(os.PRIO_PROCESS, int(child)) for child in children]


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 600  # only so that a fault ends: a busy machine may take minutes
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_free(path: Path) -> bool:
    with open(path, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_archives_carry_finished_tables_and_small_states_to_another_machine(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue_of("lca_toy", "resnet20_layers")
    first, second = checkout / "first", checkout / "second"
    resume = "work/smoke/lca/runs/resnet20/seed0/resume.safetensors"
    trained(first / "work", "resnet20", stop_after=0)
    assert recording.record(minutes=5, into=first, only=["lca_toy"], jobs=1, scale="smoke") == 0
    assert (first / resume).is_file(), "another entry of the queue will go on with it"
    assert {path.name for path in first.glob("*.zip")} == {"tables-000.zip", "state-000.zip"}
    second.mkdir()
    for path in first.glob("*.zip"):
        shutil.copy(path, second)
    capsys.readouterr()
    assert recording.record(minutes=1e-9, into=second, only=["lca_toy"], scale="smoke") == 0
    assert "0 finished now, 0 of 1 left" in capsys.readouterr().out
    assert (second / resume).read_bytes() == (first / resume).read_bytes()
    assert recording.record(minutes=1e-9, into=second, only=["resnet20_layers"], scale="smoke") == 75
    assert "Next: lca/resnet20_layers seed 0. Run the same command again" in capsys.readouterr().out


def test_the_log_of_a_run_is_a_result_of_its_own(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_queue(configs.FOLDER, {"paper": "lca", "runs": ["resnet20"], "seeds": 1})
    folder = trained(checkout / "DIR/work", "resnet20")
    expected = contents(folder / "tables")
    assert recording.record(minutes=5, into=checkout / "DIR", jobs=1, scale="smoke") == 0, "killed before its log was kept"
    assert contents(checkout / "DIR/work/smoke/lca/tables/resnet20/seed0") == expected
    assert archives.folders(checkout / "DIR/tables-000.zip") == ["smoke/lca/tables/resnet20/seed0"]
    assert not folder.exists()


def test_a_job_that_fails_is_named_with_its_reason(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue_of("mnist_fc_no_momentum_lca")
    (checkout / "DIR/work/data").mkdir(parents=True)
    (checkout / "DIR/work/data/digits.safetensors").write_text("no data")
    assert recording.record(minutes=5, into=checkout / "DIR", jobs=1, scale="smoke") == 1
    said = capsys.readouterr().out
    assert "train lca/mnist_fc_no_momentum seed 0: failed" in said
    assert "digits.safetensors.provenance.json is missing" in said
    assert "Failed: train lca/mnist_fc_no_momentum seed 0." in said


def test_two_recorders_do_not_share_a_folder(checkout: Path) -> None:
    (checkout / "DIR").mkdir()
    with open(checkout / "DIR/.lock", "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ReplicationError, match="Another `replicate record` is running in"):
            recording.record(minutes=1, into=checkout / "DIR", scale="smoke")


def test_without_data_the_reason_is_said(checkout: Path) -> None:
    with pytest.raises(ReplicationError, match=r"cifar10.*REPLICATION_OFFLINE is set"):
        recording.record(minutes=1, into=checkout / "DIR", only=["cifar10_stiffness"], folders=[checkout])
    with pytest.raises(ReplicationError, match="nowhere, which is not a folder"):
        recording.record(minutes=1, into=checkout / "DIR", folders=[Path("nowhere")])


def test_measuring_comes_before_training_and_the_queues_order_before_both(checkout: Path) -> None:
    units = queue.units(queue.load(), "full")
    session = recording.Session(
        checkout / "DIR", checkout / "DIR/work", units, [unit for unit in units if unit.name == "resnet20_momentum_layers"], jobs=None
    )
    seed0 = session.chosen[0]
    jobs = [job for job in session.ready() if job.unit == seed0]
    assert [job.kind for job in jobs] == ["train"] * 18
    session.trained |= {("lca", "resnet20_delay1", 0), ("lca", "resnet20_rescaled8", 0)}
    first = next(session.ready())
    assert (first.kind, first.parts, first.gather) == ("measure", (1, 17), False)
    session.parts[seed0] |= {1, 17}
    assert "full/lca/runs/resnet20_delay1/seed0" not in session.needed_folders(), "each part reads one run, whose trajectory may go"
    assert "full/lca/runs/resnet20_delay2/seed0" in session.needed_folders()


# ----- the queue


def test_everything_that_figures_are_drawn_from_is_in_the_queue() -> None:
    there = {(unit.paper, unit.name) for unit in queue.units(queue.load(), "full")}
    papers = {paper for paper, _ in there}
    assert {(paper, name) for paper, name in dag.figures_of("full") if paper in papers} <= there, "add the missing ones to queue.yaml"


def test_a_unit_is_listed_once_where_it_comes_first() -> None:
    units = queue.units(queue.load(), "full")
    assert len({unit.tables for unit in units}) == len(units)
    frozen = [unit.seed for unit in units if unit.name == "resnet20_frozen_layers"]
    assert frozen == list(range(10))


def test_the_cheapest_evidence_for_the_device_comes_first(tmp_path: Path) -> None:
    entries = [
        {"measurements": ["lenet_lca"], "seeds": 2, "core_minutes": 300, "gpu_minutes": 2},  # two figures, two seeds
        {"measurements": ["resnet20_layers"], "seeds": 3, "core_minutes": 299, "gpu_minutes": 8},  # three figures, three seeds
        {"measurements": ["lca_toy"], "core_minutes": 400, "gpu_minutes": 0.1},  # one figure, three seeds
        {"measurements": ["resnet20_layers"], "seeds": 10, "core_minutes": 50, "gpu_minutes": 50},  # seven more seeds, no more figures
    ]
    write_queue(tmp_path, *({"paper": "lca"} | entry for entry in entries))
    orders = {device: queue.in_order(queue.load(tmp_path), device) for device in ("cpu", "gpu")}
    names = {device: [(*entry.names, entry.seeds) for entry in order] for device, order in orders.items()}
    assert names["cpu"] == [("resnet20_layers", 3), ("lenet_lca", 2), ("resnet20_layers", 10), ("lca_toy", None)]
    assert names["gpu"] == [("lca_toy", None), ("lenet_lca", 2), ("resnet20_layers", 3), ("resnet20_layers", 10)]


def test_a_recorder_works_in_that_order_with_one_thread_a_job(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_queue(
        configs.FOLDER,
        {"paper": "svcca", "measurements": ["linear_maps"], "seeds": 1, "core_minutes": 9},
        {"paper": "svcca", "measurements": ["noisy_layers"], "seeds": 1, "core_minutes": 2},
        {"paper": "lca", "measurements": ["lca_toy"], "seeds": 1, "core_minutes": 1},
    )
    assert recording.record(minutes=5, into=checkout / "DIR", jobs=1, scale="smoke") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("measure ")]
    assert [line.split()[1] for line in said] == ["lca/lca_toy", "svcca/noisy_layers", "svcca/linear_maps"]
    for folder in (checkout / "DIR/work/smoke").glob("*/tables/*/seed0"):
        provenance = read_provenance(folder / PROVENANCE)
        assert provenance["device"] == "cpu, 1 thread(s)"
        assert 0 < provenance["core_seconds"] <= 1.5 * provenance["seconds"] + 1, "no more threads than one"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"measurements": ["nope"]}, "unknown measurement 'nope' of lca; allowed: mnist_fc_lca, "),
        ({"runs": ["nope"]}, "unknown run 'nope' of lca; allowed: mnist_fc, "),
        ({"paper": "nope", "runs": ["x"]}, "unknown paper 'nope'; allowed: four_views, "),
        ({}, "records nothing; name measurements or runs"),
        ({"runs": ["mnist_fc"], "core_minute": 3}, r"unknown key 'core_minute' \(did you mean 'core_minutes'\?\)"),
        ({"runs": ["mnist_fc"], "seeds": 4}, "asks for 4 seeds of lca/mnist_fc, which has 3"),
        ({"runs": ["mnist_fc"], "core_minutes_are": "estimated"}, "'estimated'"),
        ({"runs": ["mnist_fc"], "gpu_minutes_are": "flops"}, "'flops'"),
        ({"runs": ["mnist_fc"], "gpu_minutes": 0}, "gpu_minutes"),
    ],
)
def test_a_mistake_in_the_queue_is_one_sentence(tmp_path: Path, entry: dict[str, object], says: str) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    write_queue(folder, {"paper": "lca"} | entry)
    with pytest.raises(ReplicationError, match=says):
        queue.load(folder)


def test_only_takes_names_of_figures_measurements_and_runs() -> None:
    entries = queue.load()
    assert {unit.name for unit in queue.units(entries, "full", ["lca_freeze_last"])} == {"resnet20_layers", "resnet20_frozen_layers"}
    assert {unit.seed for unit in queue.units(entries, "full", ["lenet_lca"])} == {0, 1, 2}
    with pytest.raises(ReplicationError, match="The queue has no 'nope'; allowed with --only: figures and fourier_theorem, "):
        queue.units(entries, "full", ["nope"])


def test_the_list_says_what_both_devices_cost_what_is_recorded_and_which_figures_gain(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "recorded/lca").mkdir(parents=True)
    (checkout / "recorded/lca/mnist_fc_lca").symlink_to(ROOT / "recorded/lca/mnist_fc_lca")
    costs = {"core_minutes": 480, "gpu_minutes": 2.5}
    write_queue(
        configs.FOLDER,
        {"paper": "lca", "measurements": ["lenet_lca"], **costs},
        {"paper": "lca", "measurements": ["mnist_fc_lca", "mnist_fc_frames"], "core_minutes": 1000, "core_minutes_are": "measured"},
    )
    queue.show([], "cpu")
    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines()]
    (recorded_row,) = [row for row in rows if "mnist_fc_lca" in row]
    assert recorded_row[1:8] == ["mnist_fc_lca", "3", "of", "3", "(cpu)", "1,000", "measured"]
    (lenet,) = [row for row in rows if "lenet_lca" in row]
    assert lenet == ["lca", "lenet_lca", "0", "of", "3", "480", "flops", "2.5", "estimated", "lca_layers,", "lca_helping_table"]
    assert said.index("mnist_fc_lca") < said.index("lenet_lca"), "eight more figures for 3,000 minutes"
    assert "on the CPU found here. Left, at most: 74 core-hours, or 0 hours of a GPU." in said
    queue.show(["lca_layers"], "gpu")
    said = capsys.readouterr().out
    assert "mnist_fc_frames" in said
    assert "on the GPU found here" in said


# ----- archives, pieces, recorded/


def some_tables(root: Path, seeds: range) -> list[str]:
    found = [f"full/lca/tables/x/seed{seed}" for seed in seeds]
    for folder in found:
        (root / folder).mkdir(parents=True)
        (root / folder / "a.csv").write_bytes(os.urandom(3000))
    return found


def test_archives_stay_below_their_limit_and_give_back_what_they_hold(tmp_path: Path) -> None:
    place, root = tmp_path / "place", tmp_path / "root"
    for seeds in (range(3), range(3, 5)):
        assert archives.add(place, "tables", root, some_tables(root, seeds), limit=8000) == []
    paths = archives.packed(place, "tables")
    assert [len(archives.folders(path)) for path in paths] == [2, 2, 1]
    assert max(path.stat().st_size for path in paths) <= 8000
    for path in paths:
        assert archives.extract(path, tmp_path / "back") == archives.folders(path)
        assert archives.extract(path, tmp_path / "back") == [], "what is there stays"
    for path in (root / "full").rglob("*.csv"):
        assert (tmp_path / "back" / path.relative_to(root)).read_bytes() == path.read_bytes()
    big = "full/lca/tables/x/seed9"
    (root / big).mkdir()
    (root / big / "a.csv").write_bytes(os.urandom(9000))
    assert archives.add(place, "tables", root, [big], limit=8000) == [big]


def test_archives_of_states_are_replaced_whole(tmp_path: Path) -> None:
    place, root = tmp_path / "place", tmp_path / "root"
    place.mkdir()
    folders = some_tables(root, range(6))
    archives.replace(place, "state", root, folders)
    assert [folder for path in archives.packed(place, "state") for folder in archives.folders(path)] == folders
    archives.replace(place, "state", root, folders[:1])
    assert [archives.folders(path) for path in archives.packed(place, "state")] == [folders[:1]]
    archives.replace(place, "state", root, [])
    assert archives.packed(place, "state") == []
    assert not list(root.glob("tmp*")), "nothing is left behind"


@pytest.mark.parametrize("name", ["../x.csv", "/x.csv", "full/lca/tables/x/seed0/../../x", "full/lca/tables/x/seed0/.x", "x.csv"])
def test_an_archive_with_other_names_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("full/lca/tables/x/seed0/a.csv", "1")
        archive.writestr(name, "1")
    with pytest.raises(ReplicationError, match="which is no result"):
        archives.extract(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    archives.add(tmp_path, "tables", tmp_path / "root", some_tables(tmp_path / "root", range(1)))
    path = tmp_path / "tables-000.zip"
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        path.write_bytes(damaged)
        with pytest.raises(ReplicationError, match=r"tables-000.zip is .*damaged"):
            archives.extract(path, tmp_path / "out")
    with pytest.raises(ReplicationError, match=r"nowhere.zip does not exist"):
        archives.extract(tmp_path / "nowhere.zip", tmp_path / "out")


def test_pieces_of_a_bundle_may_come_in_several_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = sources.read("digits")
    sources.write_bundle(digits, tmp_path / "whole", piece_bytes=20_000)
    files = sorted(path for path in (tmp_path / "whole").rglob("*") if path.is_file() and path.name != formats.SUMS)
    for number, path in enumerate(files):
        target = tmp_path / f"part{number % 2}" / path.relative_to(tmp_path / "whole")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(tmp_path / "whole" / formats.SUMS, tmp_path / "part1")
    formats.join_folders([tmp_path / "part0", tmp_path / "part1"], tmp_path / "joined")
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "joined"))
    assert sources.read("digits").origin.kind == "bundle"
    assert sources.read("digits").origin.checksums == digits.origin.checksums


def test_finished_tables_are_kept_after_checks(checkout: Path) -> None:
    name = "full/lca/tables/mnist_fc_lca_fresh/seed0"
    source, target = checkout / "results" / name, checkout / "recorded/lca/mnist_fc_lca_fresh/seed0"
    shutil.copytree(ROOT / "recorded/lca/mnist_fc_lca_fresh/seed0", source)
    archives.add(checkout, "tables", checkout / "results", [name])
    assert keep.keep([checkout / "tables-000.zip"]) == [target.relative_to(checkout)]
    assert contents(target) == contents(source)
    assert keep.keep([checkout / "results"], ["lca_sampling"]) == [], "no newer ones of this figure"
    with pytest.raises(ReplicationError, match="There are no full-scale tables of nope in"):
        keep.keep([checkout / "results"], ["nope"])
    original = read_provenance(source / PROVENANCE, check=False)
    newer = original | {"created": "2999-01-01T00:00:00+00:00"}
    for change, says in (
        ({"scale": "reduced"}, "of scale reduced; only full-scale"),
        ({"config": original["config"] | {"groups": 7}}, "another configuration"),
        ({"seed": 1}, "holds tables of seed 1"),
        ({"trainings": []}, "other trainings"),
    ):
        (source / PROVENANCE).write_text(json.dumps(newer | change))
        with pytest.raises(ReplicationError, match=says):
            keep.keep([checkout / "results"])
    (source / PROVENANCE).write_text(json.dumps(newer))
    assert len(keep.keep([checkout / "results"])) == 1
    (source / "totals.csv").write_text("damaged")
    with pytest.raises(ReplicationError, match=r"totals.csv was changed or damaged"):
        keep.keep([checkout / "results"])


def test_what_is_recorded_is_not_made_again(checkout: Path) -> None:
    (checkout / "recorded").symlink_to(ROOT / "recorded")
    units = queue.units(queue.load(), "full", ["mnist_fc_lca", "lenet_lca"])
    session = recording.Session(checkout / "DIR", checkout / "DIR/work", units, units, jobs=1)
    assert {unit.name for unit in session.finished} == {"mnist_fc_lca"}
    assert dag.is_recorded("lca", "lca_layers")
