"""What a figure leaves for its claims on disk: its quantities (CSV) and the verdicts on its claims (JSON), read back as typed objects."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from replication.claims.verdicts import Verdict
from replication.errors import ReplicationError
from replication.files.atomic import read_json, write_json
from replication.files.provenance import provenance_file, read_provenance

QUANTITIES, VERDICTS = ".quantities.csv", ".verdicts.json"  # endings of the files beside a figure's picture


@dataclass(frozen=True)
class JudgedClaim(Verdict):
    """A verdict, and whether and how its claim was amended after it was locked."""

    post_hoc: bool
    amendments: list[str]


@dataclass(frozen=True)
class FigureVerdicts:
    """The verdicts on the claims of one figure at one scale.

    Attributes:
        title: of the paper.
        reproduces: which figure or table of the paper the figure reproduces.
    """

    title: str
    paper: str
    figure: str
    reproduces: str
    scale: str
    verdicts: list[JudgedClaim]


_VERDICT_FILE = TypeAdapter(FigureVerdicts)


def read_quantities(path: Path) -> dict[str, dict[int, float]]:
    """Quantities of a figure: by name, one estimate per seed.

    Raises:
        ReplicationError: the file is missing, was changed after it was written, or is no table of quantities.

    >>> import tempfile
    >>> from replication.files.provenance import write_provenance
    >>> figure = Path(tempfile.mkdtemp()) / "lca_x"
    >>> file = figure.with_name(figure.name + QUANTITIES)
    >>> pd.DataFrame({"quantity": ["total", "total"], "seed": [0, 1], "value": [-1.5, -1.25]}).to_csv(file, index=False)
    >>> write_provenance(provenance_file(figure), {}, [file])
    >>> read_quantities(file)
    {'total': {0: -1.5, 1: -1.25}}
    """
    read_provenance(provenance_file(path.with_name(path.name.removesuffix(QUANTITIES))))
    try:
        table = pd.read_csv(path).astype({"seed": int, "value": float})
        return {str(name): dict(zip(rows["seed"], rows["value"], strict=True)) for name, rows in table.groupby("quantity", sort=False)}
    except (ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise ReplicationError(f"{path} is not a table of quantities ({reason}); delete it and run again.") from None


def write_verdicts(path: Path, verdicts: FigureVerdicts) -> None:
    """Write the verdicts on a figure's claims as JSON, atomically.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / f"lca_x{VERDICTS}"
    >>> write_verdicts(file, FigureVerdicts("LCA", "lca", "lca_x", "LCA, Figure 9", "full", verdicts=[]))
    >>> read_json(file)["figure"]
    'lca_x'
    """
    write_json(path, asdict(verdicts))


def read_verdicts(path: Path) -> FigureVerdicts:
    """A verdict file as ``write_verdicts`` writes it.

    Raises:
        ReplicationError: it is missing, damaged or of an earlier version of this package.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / f"lca_x{VERDICTS}"
    >>> write_verdicts(file, FigureVerdicts("LCA", "lca", "lca_x", "LCA, Figure 9", "full", verdicts=[]))
    >>> read_verdicts(file).reproduces
    'LCA, Figure 9'
    """
    try:
        return _VERDICT_FILE.validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        wrong = f"has no {place}" if first["type"] == "missing" else f"has a wrong {place}"
        again = "it is damaged or of an earlier version: delete it and run `snakemake claims` again"
        raise ReplicationError(f"{path} {wrong}; {again}.") from None
