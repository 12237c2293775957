"""Mutation tests of the instruments: a fault is put into the code on purpose, and a test has to fail (``make mutants``).

Two kinds of mutants. *Named* ones are faults that someone thought of, written down with the tests that must see them, one file for
each package: ``tests/mutants/lca.yaml`` and so on. *Sampled* ones are drawn from all small changes of the syntax tree
(:mod:`mutants.sampled`). Those that survive and may, because they change nothing that can be observed, stand in ``survivors.yaml``
with the reason.

Neither mutmut nor cosmic-ray fits: both make every mutant of a file, hundreds of them at some seconds each, and neither takes a fault
that is given as text or draws a sample that can be repeated.
"""

from dataclasses import dataclass
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SURVIVORS = HERE / "survivors.yaml"


@dataclass(frozen=True)
class Mutant:
    """One fault: in ``file``, the text ``old`` becomes ``new``; one of ``tests`` (paths or pytest node ids) has to fail.

    ``old`` occurs exactly once in the file. ``why`` says what the fault would spoil.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str

    def applied_to(self, source: str) -> str:
        """The mutated source; ValueError if ``old`` does not occur exactly once, or if nothing changes."""
        if source.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.file}: {self.old!r} occurs {source.count(self.old)} times; it has to occur once and to change")
        return source.replace(self.old, self.new)


def named_mutants() -> list[Mutant]:
    """The mutants of all YAML files, by file and then in the order written."""
    files = sorted(path for path in HERE.glob("*.yaml") if path != SURVIVORS)
    entries = [entry for path in files for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or []]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def known_survivors() -> dict[tuple[str, str, str], str]:
    """Why a mutant may survive, by its file, its line before and its line after (without indentation)."""
    entries = yaml.safe_load(SURVIVORS.read_text(encoding="utf-8")) or []
    return {(entry["file"], entry["old"], entry["new"]): entry["why"] for entry in entries}
