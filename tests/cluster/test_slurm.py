"""The smoke DAG on a real SLURM of one machine, a running job cancelled: every table as in a local run, byte by byte.

`make test_cluster` runs this; as root it installs SLURM from the distribution where it is missing.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkout import copy_project

FIGURES = ("lca_layers", "lca_toy")
PACKAGES = ("slurm-wlm", "munge", "dbus")
PLACE, CONFIGURATION = Path("/etc/slurm"), ("slurm.conf", "gres.conf")

pytestmark = pytest.mark.cluster


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def require_slurm() -> None:
    """Skip, with the reason, where SLURM or the plugin cannot be had."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("the SLURM plugin is not installed: pip install '.[slurm]'")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of its own can only be started by root")
    if any((PLACE / name).exists() for name in CONFIGURATION):
        pytest.skip(f"a SLURM is configured on this machine already ({PLACE})")
    if shutil.which("slurmctld") is None and shutil.which("apt-get"):
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", *arguments], capture_output=True)
    if missing := [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]:
        pytest.skip(f"SLURM is not installed ({', '.join(missing)} missing): apt-get install {' '.join(PACKAGES)}")


def write_configuration(folder: Path) -> Path:
    host = socket.gethostname().split(".")[0]
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")  # asked for and given, though nothing is there
    settings = {
        "ClusterName": "test", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmUser": "root", "SlurmdUser": "root",
        "AuthType": "auth/munge", "AuthInfo": f"socket={folder}/munge.socket", "CredType": "cred/munge",
        "SlurmctldPort": free_port(), "SlurmdPort": free_port(), "StateSaveLocation": folder / "state", "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid", "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "slurmctld.log", "SlurmdLogFile": folder / "slurmd.log",
        "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory", "AccountingStorageType": "accounting_storage/none",
        "JobAcctGatherType": "jobacct_gather/linux", "MpiDefault": "none", "ReturnToService": 2, "MinJobAge": 600, "GresTypes": "gpu",
    }  # fmt: skip
    found = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True).stdout.split()
    size = dict(word.split("=") for word in found if "=" in word)
    lines = [f"{key}={value}" for key, value in settings.items()]
    # memory enough for the rules' requests, which are not enforced
    lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs={max(4, int(size['CPUs']))} RealMemory=64000 Gres=gpu:1")
    lines.append(f"PartitionName=debug Nodes={host} Default=YES State=UP")
    (folder / "slurm.conf").write_text("\n".join([*lines, "SlurmdParameters=config_overrides", ""]))
    return folder / "slurm.conf"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands speak to one that runs in a temporary folder."""
    require_slurm()
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    configuration = write_configuration(folder)
    for name in CONFIGURATION:  # the plugin's jobs are given no SLURM_ variable, so only the usual place will do
        PLACE.mkdir(exist_ok=True)
        (PLACE / name).unlink(missing_ok=True)  # a link that a killed test left and that leads nowhere
        (PLACE / name).symlink_to(folder / name)
    places = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    munge = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key"]
    munge += [f"--{option}={folder}/munge.{ending}" for option, ending in places.items()]
    processes = []
    environment = dict(os.environ)
    try:
        with open(folder / "daemons.log", "w") as log:
            for command, ready in (
                (munge, lambda: (folder / "munge.socket").exists()),
                (["slurmctld", "-D", "-f", str(configuration)], lambda: says(environment, "scontrol", "ping", words="is UP")),
                (["slurmd", "-D", "-f", str(configuration)], lambda: says(environment, "sinfo", "-h", words="idle")),
            ):
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
                wait_for(ready, f"{command[0]} did not start; see {folder}", 120)
        yield environment
    finally:
        for name in CONFIGURATION:
            (PLACE / name).unlink()
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=120)


def says(environment: dict[str, str], *command: str, words: str) -> bool:
    return words in subprocess.run(command, capture_output=True, text=True, env=environment).stdout


def checkout(place: Path) -> Path:
    copy_project(place, FIGURES)
    lca = place / "paper_configs/lca.yaml"
    lca.write_text(lca.read_text().replace("reduced: 3, smoke: 2}", "reduced: 3, smoke: 1}"))  # one seed: fifteen jobs
    return place


def snakemake(project: Path, *arguments: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "snakemake", "figures", *arguments]
    offline = environment | {"REPLICATION_DATA": "", "REPLICATION_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=project, env=offline, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def tables(project: Path) -> dict[str, bytes]:
    return {str(path.relative_to(project)): path.read_bytes() for path in project.glob("results/smoke/*/tables/*/seed*/*.csv")}


def running(environment: dict[str, str]) -> list[str]:
    command = ["squeue", "-h", "-t", "RUNNING", "-o", "%A %j %k"]
    listed = subprocess.run(command, capture_output=True, text=True, env=environment).stdout.splitlines()
    return [line.split()[0] for line in listed if "train" in line or "measure" in line]


def test_the_smoke_dag_through_slurm_gives_the_same_tables(slurm: dict[str, str], tmp_path: Path) -> None:
    local = checkout(tmp_path / "local")
    process = snakemake(local, "--config", "scale=smoke", "--cores", "2", environment=dict(os.environ))
    output = process.communicate()[0]
    assert process.returncode == 0, output

    cluster = checkout(tmp_path / "cluster")
    # without accounting the plugin's own query of states never answers
    one_machine = ["--slurm-no-account", "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3"]
    one_machine += ["--jobs", "4", "--latency-wait", "10", "--default-resources", "slurm_partition=debug"]
    profile = ["--workflow-profile", "profiles/slurm", "--config", "scale=smoke", "gpu=1"]
    process = snakemake(cluster, *profile, *one_machine, environment=slurm)
    try:
        wait_for(lambda: bool(running(slurm)) or process.poll() is not None, "no job started", 600)
        cancelled = running(slurm)[0]
        subprocess.run(["scancel", cancelled], check=True, env=slurm)
        output = process.communicate(timeout=3600)[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert ", again" in output, f"job {cancelled} was cancelled and submitted again"
    expected = tables(local)
    assert len(expected) > 10
    assert tables(cluster) == expected
