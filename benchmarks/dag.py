"""How the overhead of the DAG grows with the number of jobs: dry runs of this project's Snakefile, and jobs that do nothing.

Run: python benchmarks/dag.py [JOBS ...]  (processor seconds of Snakemake itself, so that other work on the machine matters little).
The dry runs are of figure_lca_layers at smoke scale with as many seeds as give about so many jobs, five to a seed. "before" leaves out
what ``replication.pipeline.dag`` remembers from job to job. The jobs that do nothing run ``:`` on one core.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from tabulate import tabulate

from replication.files.provenance import processor

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "replication", "figures", "paper_configs", "profiles")
JOBS_PER_SEED = 5
NO_OP = """
rule all:
    input: expand("out/{{k}}", k=range({n}))
rule one:
    output: touch("out/{{k}}")
    shell: ":"
"""


def copy_of_the_project(place: Path) -> None:
    place.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, place / part)
    for path in (place / "paper_configs").glob("*.yaml"):
        if path.stem != "lca":
            path.unlink()


def set_seeds(place: Path, seeds: int) -> None:
    path = place / "paper_configs/lca.yaml"
    raw = yaml.safe_load((ROOT / "paper_configs/lca.yaml").read_text())
    figure = raw["figures"]["lca_layers"] | {"claims": []}
    for run in ("mnist_fc", "lenet"):
        raw["runs"][run]["seeds"]["smoke"] = seeds
    path.write_text(yaml.safe_dump(raw | {"figures": {"lca_layers": figure}}, sort_keys=False))
    (place / "paper_configs/claims.lock").write_text("{}")


def forget(place: Path) -> None:
    """Remove the memory of ``replication.pipeline.dag`` for fingerprints."""
    path = place / "replication/pipeline/dag.py"
    path.write_text(re.sub(r"@_remembered\n(?=def \w+_depends)", "", path.read_text()))


def processor_seconds(place: Path, *arguments: str) -> tuple[float, float, str]:
    """User and system seconds of one Snakemake and its children, its peak memory in MB, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"REPLICATION_OFFLINE": "1", "REPLICATION_DATA": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", *arguments]
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, after.ru_maxrss / 1024, ended.stdout + ended.stderr


def dry_run(place: Path, jobs: int) -> tuple[int, float, float]:
    set_seeds(place, max(1, round(jobs / JOBS_PER_SEED)))
    seconds, megabytes, said = processor_seconds(place, "figures", "-n", "--config", "scale=smoke", "--quiet", "rules")
    total = re.search(r"^total +(\d+)", said, re.MULTILINE)
    return int(total[1]) if total else 0, seconds, megabytes


def main(counts: list[int]) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        now, before, nothing = (Path(folder) / name for name in ("now", "before", "nothing"))
        for place in (now, before):
            copy_of_the_project(place)
        forget(before)
        for count in counts:
            jobs, seconds, megabytes = dry_run(now, count)
            earlier = f"{dry_run(before, count)[1]:.1f}" if count <= 1000 else ""
            running = ""
            if count <= 300:
                shutil.rmtree(nothing, ignore_errors=True)
                nothing.mkdir()
                (nothing / "Snakefile").write_text(NO_OP.format(n=count))
                running = f"{processor_seconds(nothing, '--cores', '1', '--quiet', 'all')[0]:.1f}"
            rows.append((jobs, f"{seconds:.1f}", f"{1000 * seconds / jobs:.0f}", earlier, running, f"{megabytes:.0f}"))
            print(f"{jobs} jobs: {seconds:.1f} s", file=sys.stderr)
    print(processor())
    headers = ["jobs", "dry run [s]", "per job [ms]", "before [s]", "run, nothing in it [s]", "memory [MB]"]
    print(tabulate(rows, headers=headers))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [10, 100, 1000, 10_000])
