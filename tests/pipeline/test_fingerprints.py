"""A fingerprint follows the code that a job runs, through every import, and nothing else."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from replication.errors import ReplicationError
from replication.pipeline import dag
from replication.pipeline.fingerprints import code_fingerprint, imports

MODULES = {
    "replication/__init__.py": '"""A package."""\n',
    "replication/ground.py": "LEVEL = 0.9\n\n\nclass Ground:\n    def stands(self):\n        return True\n",
    "replication/middle.py": (
        '"""Between."""\n\nfrom replication.ground import LEVEL\n\n\ndef double():\n    """Twice."""\n    return 2 * LEVEL\n'
    ),
    "replication/top.py": "import math\n\nfrom replication import middle\n\n\nasync def area():\n    return math.pi * middle.double()\n",
    "replication/apart.py": "def alone():\n    return 1\n",
    "replication/late.py": "def compute():\n    import replication.middle as m\n\n    return m.double()\n",
    "replication/near.py": "from . import middle\nfrom .ground import Ground\n",
    "replication/circle.py": "from replication.round import b\n\na = 1\n",
    "replication/round.py": "from replication import circle\n\nb = 2\n",
    "replication/nets/__init__.py": "from replication.nets.small import build\n",
    "replication/nets/small.py": "from ..ground import LEVEL\n\n\ndef build():\n    return LEVEL\n",
    "figures/style.py": "COLOUR = 'red'\n",
    "figures/bars.py": "from figures.style import COLOUR\n\nfrom replication.middle import double\n",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, content in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def depends(project: Path, module: str, edited: str, old: str, new: str) -> bool:
    """Whether the edit of one file changes the fingerprint of ``module``; undone afterwards."""
    before = code_fingerprint(module, root=project)
    path = project / edited
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    after = code_fingerprint(module, root=project)
    path.write_text(content)
    assert code_fingerprint(module, root=project) == before
    return after != before


@pytest.mark.parametrize(
    ("edited", "old", "new"),
    [
        ("middle", "def double", "# a comment\ndef double"),
        ("middle", "2 * LEVEL", "2 * LEVEL  # why"),
        ("middle", '"""Twice."""', '"""Two times that."""'),
        ("middle", '    """Twice."""\n', ""),
        ("middle", '"""Between."""', '"""Another."""'),
        ("middle", "\n\n\ndef", "\n\n\n\n\n\ndef"),
        ("middle", "2 * LEVEL", "(\n        2\n        * LEVEL\n    )"),
        ("ground", "class Ground:\n", 'class Ground:\n    """What all stand on."""\n\n'),
        ("ground", "(self):\n", '(self):\n        """Always."""\n'),
        ("top", "async def area():\n", 'async def area():\n    """Of a circle."""\n'),
        ("top", "import math", '"""On top."""\n\nimport math'),
    ],
)
def test_comments_docstrings_and_blank_lines_change_nothing(project: Path, edited: str, old: str, new: str) -> None:
    assert not depends(project, "replication.top", f"replication/{edited}.py", old, new)


@pytest.mark.parametrize(
    ("edited", "old", "new"),
    [
        ("top", "math.pi", "3.14"),
        ("middle", "2 *", "3 *"),
        ("middle", "return 2 * LEVEL", "return '2 * LEVEL'"),
        ("ground", "0.9", "0.95"),
        ("ground", "return True", "return False"),
        ("ground", "def stands", "def holds"),
    ],
)
def test_an_edit_of_code_shows_through_every_import(project: Path, edited: str, old: str, new: str) -> None:
    assert depends(project, "replication.top", f"replication/{edited}.py", old, new)


def test_an_edit_elsewhere_changes_nothing(project: Path) -> None:
    assert not depends(project, "replication.top", "replication/apart.py", "return 1", "return 2")
    assert not depends(project, "replication.middle", "replication/top.py", "math.pi", "3.14")
    assert not depends(project, "replication.middle", "figures/bars.py", "COLOUR", "COLOR")


@pytest.mark.parametrize("module", ["replication.late", "replication.near", "replication.nets.small", "replication.nets", "figures.bars"])
def test_imports_inside_functions_relative_ones_and_packages_are_followed(project: Path, module: str) -> None:
    assert depends(project, module, "replication/ground.py", "0.9", "0.95")


def test_a_package_counts_with_all_it_exports_where_one_of_its_names_is_imported(project: Path) -> None:
    (project / "replication/face.py").write_text("from replication.nets import build\n")
    (project / "replication/leaf.py").write_text("from replication.nets import small\n")
    (project / "replication/nets/large.py").write_text("def grow():\n    return 1\n")
    (project / "replication/nets/__init__.py").write_text(
        "from replication.nets.large import grow\nfrom replication.nets.small import build\n"
    )
    assert depends(project, "replication.face", "replication/nets/large.py", "return 1", "return 2")
    assert not depends(project, "replication.leaf", "replication/nets/large.py", "return 1", "return 2")


def test_figures_depend_on_what_they_share(project: Path) -> None:
    assert depends(project, "figures.bars", "figures/style.py", "red", "blue")
    assert imports("figures.bars", project) == ("figures.style", "replication.middle")


def test_modules_that_import_each_other_are_followed_once(project: Path) -> None:
    assert depends(project, "replication.circle", "replication/round.py", "b = 2", "b = 3")
    assert depends(project, "replication.round", "replication/circle.py", "a = 1", "a = 3")


def test_a_fingerprint_is_of_the_set_of_modules(project: Path) -> None:
    both = code_fingerprint("replication.top", "replication.apart", root=project)
    assert both == code_fingerprint("replication.apart", "replication.top", "replication.middle", root=project)
    assert both != code_fingerprint("replication.top", root=project)
    assert re.fullmatch(r"[0-9a-f]{16}", both)


def test_the_place_of_a_project_does_not_matter(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(project, tmp_path_factory.mktemp("elsewhere") / "copy")
    assert code_fingerprint("replication.top", root=copy) == code_fingerprint("replication.top", root=project)
    monkeypatch.chdir(project)
    assert code_fingerprint("replication.top") == code_fingerprint("replication.top", root=copy)


def test_the_name_of_a_module_matters(project: Path) -> None:
    (project / "replication/other.py").write_text(MODULES["replication/apart.py"])
    assert code_fingerprint("replication.other", root=project) != code_fingerprint("replication.apart", root=project)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "figures/bars.py does not exist; every model, instrument and figure of paper_configs needs its module"),
        (b"def broken(:\n", "figures/bars.py does not parse (line 1: "),
        (b"x = 1\0\n", "figures/bars.py does not parse ("),
        (b"name = '\xff'\n", "figures/bars.py is not UTF-8 ("),
    ],
    ids=["missing", "syntax", "null byte", "encoding"],
)
def test_a_missing_or_broken_module_is_one_sentence(project: Path, content: bytes | None, words: str) -> None:
    (project / "figures/bars.py").unlink()
    if content is not None:
        (project / "figures/bars.py").write_bytes(content)
    with pytest.raises(ReplicationError, match=rf"\A[^\n]*{re.escape(words)}[^\n]*\.\Z"):
        code_fingerprint("figures.bars", root=project)


# This package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("package")
    for name in ("replication", "figures"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def reaches(package: Path, module: str, other: str) -> bool:
    """Whether code added to ``other`` changes the fingerprint of ``module``."""
    path = package / f"{other.replace('.', '/')}.py"
    content, before = path.read_text(), code_fingerprint(module, root=package)
    path.write_text(content + "\nADDED = 1\n")
    after = code_fingerprint(module, root=package)
    path.write_text(content)
    return after != before


@pytest.mark.parametrize(
    "other",
    [
        *("lca.allocation", "lca.ledger", "objective.objective", "claims.verdicts", "claims.statistics", "claims.report"),
        *("cli.program", "cli.actions", "pipeline.steps", "pipeline.dag", "pipeline.configs", "files.provenance"),
    ],
)
def test_training_does_not_depend_on_what_comes_after_it_or_on_plumbing(package: Path, other: str) -> None:
    assert not reaches(package, "replication.training.loop", f"replication.{other}")


def test_training_depends_on_itself(package: Path) -> None:
    assert reaches(package, "replication.training.loop", "replication.training.loop")


@pytest.mark.parametrize("other", ["lca.allocation", "lca.ledger", "objective.objective", "objective.stacked_mlp"])
def test_the_instrument_depends_on_all_it_computes_with(package: Path, other: str) -> None:
    assert reaches(package, "replication.lca.trajectory", f"replication.{other}")


@pytest.mark.parametrize("other", ["training.loop", "data.examples", "claims.verdicts", "claims.statistics"])
def test_the_instrument_depends_on_neither_training_nor_judging(package: Path, other: str) -> None:
    assert not reaches(package, "replication.lca.trajectory", f"replication.{other}")


@pytest.mark.parametrize("other", ["data/examples", "data/sources/reading", "data/sources/formats"])
def test_prepared_data_depend_on_their_readers(package: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package)
    before = dag.data_depends()
    path = package / f"replication/{other}.py"
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert dag.data_depends() != before


@pytest.mark.parametrize("other", ["reading", "formats"])
def test_training_depends_on_what_the_data_are_and_not_on_where_they_come_from(package: Path, other: str) -> None:
    assert reaches(package, "replication.training.loop", "replication.data.examples")
    assert not reaches(package, "replication.training.loop", f"replication.data.sources.{other}")


def test_every_module_of_the_package_has_a_fingerprint(package: Path) -> None:
    modules = [".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py") if path.stem != "__init__"]
    assert "replication.models.mlp" in modules
    assert all(re.fullmatch(r"[0-9a-f]{16}", code_fingerprint(module, root=package)) for module in modules)
