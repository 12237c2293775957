"""A crate of finished results: every name in it leads somewhere, and its files have the checksums that it states."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from replication.errors import ReplicationError
from replication.pipeline import crate, dag, drawing


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The crate of one figure, drawn from recorded/."""
    project = tmp_path_factory.mktemp("crate")
    for name in (*crate.CODE, "paper_configs", "figures", "recorded"):
        (project / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        tables = [Path(folder) for folder in dag.table_folders("recorded", "lca", "lca_synchrony")]
        folder = Path("results/recorded/lca/figures")
        drawing.draw_figure(scale="recorded", paper="lca", figure="lca_synchrony", table_folders=tables, folder=folder)
        with pytest.raises(ReplicationError, match=r"No figure is drawn in results/smoke; run `snakemake figures"):
            crate.write("smoke", Path("none.zip"))
        n_files = crate.write("recorded", Path("crate.zip"))
        opened = zipfile.ZipFile(project / "crate.zip")
    assert len(opened.namelist()) == n_files + 1
    return opened


@pytest.fixture(scope="module")
def entities(archive: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    graph = json.loads(archive.read(crate.METADATA))["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [value["@id"]] if set(value) == {"@id"} else [name for each in value.values() for name in references(each)]
    return [name for each in value for name in references(each)] if isinstance(value, list) else []


def test_every_reference_leads_to_an_entity(entities: dict[str, dict[str, Any]]) -> None:
    outside = {crate.SPECIFICATION}
    assert {name for entity in entities.values() for name in references(entity)} <= entities.keys() | outside


def test_every_file_has_the_checksum_that_is_stated(archive: zipfile.ZipFile, entities: dict[str, dict[str, Any]]) -> None:
    files = {name: entity for name, entity in entities.items() if "File" in entity["@type"]}
    assert set(files) | {crate.METADATA} == set(archive.namelist())
    for name, entity in files.items():
        content = archive.read(name)
        assert hashlib.sha256(content).hexdigest() == entity["sha256"]
        assert str(len(content)) == entity["contentSize"]


def test_the_workflow_is_the_main_entity_and_its_run_made_the_figures(entities: dict[str, dict[str, Any]]) -> None:
    assert references(entities["./"]["mainEntity"]) == ["Snakefile"]
    assert "ComputationalWorkflow" in entities["Snakefile"]["@type"]
    run = entities["#run"]
    assert references(run["instrument"]) == ["Snakefile"]
    assert "results/recorded/lca/figures/lca_synchrony.png" in references(run["result"])
    assert "#data-mnist" in references(run["object"])


def test_a_figure_is_made_of_tables_that_are_made_of_data(entities: dict[str, dict[str, Any]]) -> None:
    tables = references(entities["#figure-lca_synchrony"]["object"])
    measured = entities["#tables-recorded/lca/mnist_fc_lca/seed0"]
    assert set(references(measured["result"])) <= set(tables)
    assert references(measured["object"]) == ["#data-mnist"]
    assert any("train_pixels" in each for each in entities["#data-mnist"]["identifier"])
