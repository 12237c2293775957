"""What a research artifact ships: one version everywhere, and files that name the same authors, licence and papers."""

import json
import re
import tomllib

import yaml
from conftest import ROOT

from replication import __version__

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CODEMETA = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_same_everywhere() -> None:
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert PROJECT["dynamic"] == ["version"]
    assert [CITATION["version"], CODEMETA["version"], newest[1]] == [__version__] * 3
    assert [str(CITATION["date-released"]), CODEMETA["dateModified"]] == [newest[2]] * 2


def test_authors_and_licence_are_the_same_everywhere() -> None:
    authors = (ROOT / "AUTHORS").read_text(encoding="utf-8").splitlines()
    for named in (CITATION["authors"], CODEMETA["author"], PROJECT["authors"]):
        assert [author["name"] for author in named] == authors
    assert authors[0] in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert CITATION["license"] == PROJECT["license"] == CODEMETA["license"].rpartition("/")[2]


def test_the_cited_papers_are_the_same() -> None:
    cited = {reference["identifiers"][0]["value"].removeprefix("arXiv:") for reference in CITATION["references"]}
    assert {paper.rpartition("/")[2] for paper in CODEMETA["referencePublication"]} == cited
    assert CODEMETA["softwareRequirements"] == [
        *(name for name in PROJECT["dependencies"] if name.startswith(("torch>", "snakemake>"))),
        f"python{PROJECT['requires-python']}",
    ]


def test_the_container_installs_the_lock() -> None:
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    oldest = re.match(r">=(\d+\.\d+)", PROJECT["requires-python"])
    assert oldest is not None
    assert f"FROM python:{oldest[1]}-slim" in recipe
    assert "pip install -r requirements.lock" in recipe
