"""The mutants themselves: every named one still applies, and the sampled ones are changes of the program. ``make mutants`` runs them."""

import ast
from pathlib import Path

import pytest

from mutants import ROOT, Mutant, known_survivors, named_mutants
from mutants.sampled import changes, sample


@pytest.mark.parametrize("mutant", named_mutants(), ids=lambda mutant: f"{mutant.file}: {mutant.new}")
def test_every_named_mutant_applies_and_names_tests_that_exist(mutant: Mutant) -> None:
    source = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(mutant.applied_to(source))) != ast.dump(ast.parse(source)), "a fault changes more than a comment"
    for test in mutant.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).exists(), test
        if name:
            assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8"), test
    assert mutant.tests
    assert mutant.why.endswith(".")


def test_a_text_that_is_missing_or_occurs_twice_is_refused() -> None:
    mutant = Mutant("some.py", "a + b", "a - b", (), "")
    assert mutant.applied_to("c = a + b") == "c = a - b"
    for source in ("c = a * b", "c = a + b + a + b"):
        with pytest.raises(ValueError, match="has to occur once"):
            mutant.applied_to(source)


SOURCE = '''"""A module: 1 + 1."""
LIMIT: int = 3


def double(x: int, n: int = 2) -> float:
    if x < 0 and not n == 1:
        raise ValueError(f"{x + 1} is below {0}")
    return 2.5 * x  # ü before an expression: byte offsets
'''


def test_changes_are_one_expression_each_outside_of_messages_types_and_defaults(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(SOURCE, encoding="utf-8")
    lines = {change.lines(SOURCE)[1] for change in changes(tmp_path, "module.py")}
    assert lines == {
        "if (x < 0 or not n == 1):",
        "if (x <= 0) and not n == 1:",
        "if x < 1 and not n == 1:",
        "if x < 0 and (n == 1):",
        "if x < 0 and not (n != 1):",
        "if x < 0 and not n == 2:",
        "return (2.5 / x)  # ü before an expression: byte offsets",
        "return 3.5 * x  # ü before an expression: byte offsets",
    }


def test_a_sample_is_the_same_for_the_same_seed_and_every_change_is_a_program() -> None:
    files = [f"replication/lca/{path.name}" for path in sorted((ROOT / "replication" / "lca").glob("*.py"))]
    drawn = sample(ROOT, files, 30, seed=1)
    assert drawn == sample(ROOT, files, 30, seed=1) != sample(ROOT, files, 30, seed=2)
    for change in drawn:
        source = (ROOT / change.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(change.applied_to(source))) != ast.dump(ast.parse(source))


def test_every_known_survivor_has_a_reason_and_is_still_there() -> None:
    for (file, old, _), why in known_survivors().items():
        assert why
        assert old in [line.strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines()], (file, old)
