"""Run mutants against their tests in a copy of the working tree and list the survivors.

    PYTHONPATH=tests python -m mutants                        # the named mutants
    PYTHONPATH=tests python -m mutants --sample 20 --seed 1   # instead, twenty changes of each package

Ends with 1 if a mutant survives that ``survivors.yaml`` does not explain. Processes are forked after the slow imports.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas  # noqa: F401  (slow imports happen once here, and forked processes have them)
import pytest
import scipy.stats  # noqa: F401
import torch  # noqa: F401

from mutants import ROOT, Mutant, known_survivors, named_mutants
from mutants.sampled import Change, sample

PACKAGES = ("lca", "svcca", "stiffness", "landscape", "curvature", "objective", "recorder")  # replication/X is tested by tests/X
SLOWEST_FACTOR, SLOWEST_EXTRA = 5, 60  # a mutant that needs so many times, plus so many seconds, of the usual time loops for ever


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="mutants", description="Mutation tests of the instruments.")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="run N sampled changes per package instead of the named mutants")
    parser.add_argument("--seed", type=int, default=0, help="which sample")
    parser.add_argument("--package", choices=PACKAGES, action="append", help="only this package (may be given again)")
    options = parser.parse_args()
    packages = options.package or PACKAGES
    with tempfile.TemporaryDirectory() as folder:
        tree = copied_tree(Path(folder))
        faults = list(sampled_faults(tree, packages, options.sample, options.seed) if options.sample else named_faults(packages))
        survivors = run(tree, faults)
    print(f"{len(faults)} mutants, {len(survivors)} unexplained survivors")
    return 1 if survivors else 0


def copied_tree(folder: Path) -> Path:
    """The files that git knows or would add, copied."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(lambda name: (ROOT / name).is_file(), names.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def named_faults(packages: Sequence[str]) -> Iterator[tuple[Mutant, tuple[str, ...]]]:
    """The named mutants of some packages, each with its tests."""
    for mutant in named_mutants():
        if Path(mutant.file).parts[1] in packages or len(packages) == len(PACKAGES):
            yield mutant, mutant.tests


def sampled_faults(tree: Path, packages: Sequence[str], size: int, seed: int) -> Iterator[tuple[Change, tuple[str, ...]]]:
    """Sampled changes, each with the tests of its package."""
    for package in packages:
        files = sorted(str(path.relative_to(tree)) for path in (tree / "replication" / package).glob("*.py"))
        for change in sample(tree, files, size, seed):
            yield change, (f"tests/{package}",)


def run(tree: Path, faults: Sequence[tuple[Mutant | Change, tuple[str, ...]]]) -> list[Mutant | Change]:
    """Run every mutant; the survivors that nobody has explained. SystemExit where the tests fail without a mutant."""
    usual = {tests: usual_seconds(tree, tests) for tests in dict.fromkeys(tests for _, tests in faults)}
    explained, survivors = known_survivors(), []
    for fault, tests in faults:
        path = tree / fault.file
        source = path.read_text(encoding="utf-8")
        path.write_text(fault.applied_to(source), encoding="utf-8")
        passes = tests_pass(tree, tests, limit=SLOWEST_FACTOR * usual[tests] + SLOWEST_EXTRA)
        path.write_text(source, encoding="utf-8")
        old, new = fault.lines(source) if isinstance(fault, Change) else (fault.old, fault.new)
        reason = explained.get((fault.file, old, new))
        if passes and reason is None:
            survivors.append(fault)
        outcome = "killed" if not passes else "SURVIVED" if reason is None else f"survived ({reason})"
        print(f"{outcome:9} {fault.file}: {old}  ->  {new}", flush=True)
    return survivors


def usual_seconds(tree: Path, tests: tuple[str, ...]) -> float:
    """Seconds that the tests take without a mutant, where they have to pass."""
    start = time.monotonic()
    if not tests_pass(tree, tests, limit=3600):
        raise SystemExit(f"These tests fail without a mutant: {' '.join(tests)}. Fix them first; see {tree_log(tree)}.")
    return time.monotonic() - start


def tests_pass(tree: Path, tests: tuple[str, ...], limit: float) -> bool:
    """Whether all tests pass in the tree, in a process of their own; one that does not end within ``limit`` seconds counts as failing."""
    process = multiprocessing.get_context("fork").Process(target=_pytest, args=(tree, tests))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode == 0


def tree_log(tree: Path) -> Path:
    """Where the last test run wrote its output, kept outside of the copy."""
    return Path(tempfile.gettempdir()) / f"mutants-{tree.name}.log"


def _pytest(tree: Path, tests: tuple[str, ...]) -> None:
    log = os.open(tree_log(tree), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    sys.path[:] = [str(tree), str(tree / "tests"), *(entry for entry in sys.path if Path(entry).resolve() not in (ROOT, ROOT / "tests"))]
    sys.dont_write_bytecode = True  # the next mutant of this file may have the same size and time
    for name in [name for name in sys.modules if name.split(".")[0] in ("mutants", "replication")]:
        del sys.modules[name]
    os._exit(pytest.main(["-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]))


if __name__ == "__main__":
    raise SystemExit(main())
