"""Finished results as a Workflow Run RO-Crate: figures, tables and the workflow, with what their provenance files say as JSON-LD.

The profile is https://w3id.org/ro/wfrun/workflow/0.5. Every figure and every folder of tables becomes an action that names its code, inputs
and outputs; the run of the whole workflow is one more.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from replication import __version__
from replication.errors import ReplicationError
from replication.files.atomic import atomic, sha256
from replication.files.provenance import PROVENANCE, provenance_file, read_provenance
from replication.pipeline import configs, dag
from replication.schema.papers import FigureConfig

METADATA = "ro-crate-metadata.json"
WORKFLOW = "Snakefile"
CODE = ("Snakefile", "requirements.lock", "LICENSE", "CITATION.cff", "README.md")
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
_PROFILES = [
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
]
SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_LICENSE = "https://spdx.org/licenses/MIT"
_SNAKEMAKE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
_AUTHORS = "#developers"
_FORMATS = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".cff": "application/yaml",
    ".yaml": "application/yaml",
    ".lock": "text/plain",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".pdf": "application/pdf",
    ".html": "text/html",
    ".md": "text/markdown",
    "": "text/plain",
}
Entity = dict[str, Any]


def write(scale: str, out: Path) -> int:
    """Write the crate of every figure that is drawn at ``scale`` as a zip file; returns the number of files beside the description.

    Raises:
        ReplicationError: the scale is unknown, no figure is drawn, or a file is missing or damaged.
    """
    configs.load(scale)
    drawn = [(paper, name, entry) for paper, name, entry in dag.figures() if provenance_file(_stem(scale, paper, name)).exists()]
    if not drawn:
        raise ReplicationError(f"No figure is drawn in results/{scale}; run `snakemake figures --config scale={scale}` first.")
    files, actions = _results(scale, drawn)
    code = [Path(name) for name in CODE] + sorted(configs.FOLDER.iterdir())
    description = _description(scale, code, files, actions)
    with atomic(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(METADATA, json.dumps(description, indent=1))
        for path in [*code, *files]:
            archive.write(path, path.as_posix())
    return len(code) + len(files)


def _stem(scale: str, paper: str, figure: str) -> Path:
    return Path("results") / scale / paper / "figures" / figure


def _results(scale: str, drawn: Sequence[tuple[str, str, FigureConfig]]) -> tuple[list[Path], list[Entity]]:
    """The files of figures and of the tables that they are drawn from, and an action for each."""
    files: dict[Path, None] = {}
    actions = []
    for paper, figure, entry in drawn:
        stem, tables = _stem(scale, paper, figure), []
        for folder in _seed_folders(scale, paper, figure):
            made = read_provenance(folder / PROVENANCE)
            outputs = [folder / name for name in made["files"]]
            tables += outputs
            if folder / PROVENANCE not in files:
                files |= dict.fromkeys([*outputs, folder / PROVENANCE])
                what = f"{made['measurement']} of {paper}, seed {made['seed']}, at {scale} scale"
                actions.append(_action(f"#tables-{folder.as_posix()}", f"Measure {what}", made, _data(made), outputs))
        made = read_provenance(provenance_file(stem))
        outputs = [stem.with_name(name) for name in made["files"]]
        verdicts = stem.with_name(f"{figure}.verdicts.json")
        outputs += [verdicts] if verdicts.exists() else []
        files |= dict.fromkeys([*outputs, provenance_file(stem)])
        used = [{"@id": path.as_posix()} for path in tables]
        actions.append(_action(f"#figure-{figure}", f"Draw {figure}: {entry.reproduces}", made, used, outputs))
    return list(files), actions


def _seed_folders(scale: str, paper: str, figure: str) -> Iterator[Path]:
    for folder in map(Path, dag.table_folders(scale, paper, figure)):
        yield from [folder] if (folder / PROVENANCE).exists() else sorted(path.parent for path in folder.glob(f"seed*/{PROVENANCE}"))


def _data(made: Entity) -> list[Entity]:
    """The data sets behind a folder of tables: what they are, with the sha256 of their pixels and labels."""
    data = {training["data"]["name"]: training["data"] for training in made["trainings"]}
    return [
        {
            "@id": f"#data-{name}",
            "@type": "Dataset",
            "name": name,
            "description": f"{each['source']}: {each['content']}",
            "identifier": [f"sha256 of {part}: {checksum}" for part, checksum in sorted(each["checksums"].items())],
        }
        for name, each in data.items()
    ]


def _action(identity: str, name: str, made: Entity, used: list[Entity], outputs: Iterable[Path]) -> Entity:
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    return {
        "@id": identity,
        "@type": "CreateAction",
        "name": name,
        "description": f"commit {made['commit']}; {versions}; {made.get('device', 'cpu')}, {made['processor']}",
        "instrument": {"@id": "#replicate"},
        "agent": {"@id": _AUTHORS},
        "endTime": made["created"],
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "object": used,
        "result": [{"@id": path.as_posix()} for path in outputs],
    }


def _compact(entity: Entity) -> Entity:
    """JSON-LD's recommended form: a list of one value is that value."""
    return {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in entity.items()}


def _description(scale: str, code: list[Path], files: list[Path], actions: list[Entity]) -> Entity:
    """The metadata document: the crate itself, the workflow, all files, and all actions."""
    data = {entity["@id"]: entity for action in actions for entity in action["object"] if "@type" in entity}
    for action in actions:
        action["object"] = [{"@id": entity["@id"]} for entity in action["object"]]
    last = max(action["endTime"] for action in actions)
    drawn = [output for action in actions if action["@id"].startswith("#figure-") for output in action["result"]]
    run = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"snakemake figures claims --config scale={scale}",
        "description": f"The run of the whole workflow at {scale} scale",
        "instrument": {"@id": WORKFLOW},
        "agent": {"@id": _AUTHORS},
        "endTime": last,
        "actionStatus": "http://schema.org/CompletedActionStatus",
        "object": [{"@id": path.as_posix()} for path in code if path.parent == configs.FOLDER] + [{"@id": each} for each in data],
        "result": drawn,
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Figures of four papers on how neural networks train, {scale} scale",
        "description": f"Figures, tables, verdicts and provenance of the replication package, version {__version__}, at {scale} scale.",
        "datePublished": last,
        "license": {"@id": _LICENSE},
        "conformsTo": [{"@id": identity} for identity, _, _ in _PROFILES],
        "mainEntity": {"@id": WORKFLOW},
        "author": {"@id": _AUTHORS},
        "publisher": {"@id": _AUTHORS},
        "hasPart": [{"@id": path.as_posix()} for path in [*code, *files]] + [{"@id": each} for each in data],
        "mentions": [{"@id": action["@id"]} for action in [run, *actions]],
    }
    graph = [root, *_fixed_entities(), *map(_file, [*code, *files]), *data.values(), run, *actions]
    return {"@context": _CONTEXT, "@graph": [_compact(entity) for entity in graph]}


def _fixed_entities() -> list[Entity]:
    """What every crate names: the document, the profiles, the program, its language, authors and licence."""
    about: Entity = {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}}
    about |= {"conformsTo": [{"@id": SPECIFICATION}, {"@id": _PROFILES[-1][0]}]}
    profiles = [{"@id": each, "@type": "CreativeWork", "name": name, "version": version} for each, name, version in _PROFILES]
    language = {"@id": _SNAKEMAKE, "@type": "ComputerLanguage", "name": "Snakemake", "url": "https://snakemake.readthedocs.io"}
    language |= {"identifier": "https://doi.org/10.12688/f1000research.29032.3"}
    program = {"@id": "#replicate", "@type": "SoftwareApplication", "name": "replicate", "softwareVersion": __version__}
    program |= {"url": "README.md", "description": "The steps of the workflow: train, measure, gather, figure, judge"}
    authors = {"@id": _AUTHORS, "@type": "Organization", "name": "The developers of the replication package"}
    licence = {"@id": _LICENSE, "@type": "CreativeWork", "name": "MIT License", "description": "A short permissive software licence"}
    return [about, *profiles, language, program, authors, licence]


def _file(path: Path) -> Entity:
    entity: Entity = {"@id": path.as_posix(), "@type": "File", "name": path.name, "contentSize": str(path.stat().st_size)}
    entity["sha256"] = sha256(path)
    if path.suffix in _FORMATS:
        entity["encodingFormat"] = _FORMATS[path.suffix]
    if path.as_posix() == "README.md":
        entity["about"] = {"@id": "./"}
    if path.as_posix() == WORKFLOW:
        entity |= {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": "Replication workflow",
            "programmingLanguage": {"@id": _SNAKEMAKE},
            "version": __version__,
            "license": {"@id": _LICENSE},
            "author": {"@id": _AUTHORS},
        }
    return entity
