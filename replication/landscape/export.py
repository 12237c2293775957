"""Surfaces as files to look at in three dimensions: a page for any browser (``export.html.jinja``), and a grid for ParaView.

Heights are those of ``heights.height_scale``: by default log(min(loss, 10) + 0.1), as in the paper's renderings. What that hides is
said on the page and written into the grid.
"""

import base64
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from replication.errors import ReplicationError
from replication.landscape.grid import as_grid, computed_rows
from replication.landscape.heights import CEILING, OFFSET, HeightScale, height_scale

TEMPLATE = Path(__file__).with_suffix(".html.jinja")


def vts(table: pd.DataFrame, *, column: str = "loss", ceiling: float | None = CEILING, logarithmic: bool | None = None) -> bytes:
    """A surface as a VTK XML structured grid: one file with its binary arrays inside, read by ParaView and VTK.

    Points are (alpha, beta, height), alpha varying fastest. A value that is nan lies at the top, since a viewer cannot place it.
    Arrays at the points: ``height``, the true values of ``column`` (inf and nan kept), ``accuracy`` if the table has it, ``computed``,
    and ``clipped``, 1 where the value lies above the ceiling or is nan. The field ``description`` says the same in words.

    Args:
        table: columns alpha, beta, loss, and optionally accuracy and computed, as ``landscape.surface`` returns them.
        column: what the height shows.
        ceiling, logarithmic: as in ``heights.height_scale``.

    Returns:
        The bytes of a ``.vts`` file.

    Raises:
        ReplicationError: points of the grid that are missing or occur twice, a column that is not there, or a scale that does not fit.

    Example:
        >>> table = pd.DataFrame({"alpha": [0, 1, 0, 1], "beta": [0, 0, 1, 1], "loss": [0.0, 1.0, 1.0, 2.0]})
        >>> b"StructuredGrid" in vts(table)
        True
    """
    values, alphas, betas = _grid(table, column)
    scale = height_scale(values, ceiling=ceiling, logarithmic=logarithmic)
    x, y = np.meshgrid(alphas, betas)
    height = np.nan_to_num(scale.heights(values), nan=scale.high)
    arrays = {"height": height, column: values}
    if "accuracy" in table:
        arrays["accuracy"] = as_grid(table, "accuracy")[0]
    computed = as_grid(table.assign(computed=computed_rows(table)), "computed")[0] if "computed" in table else np.ones_like(values)
    root = ElementTree.Element("VTKFile", type="StructuredGrid", version="1.0", byte_order="LittleEndian", header_type="UInt64")
    extent = f"0 {len(alphas) - 1} 0 {len(betas) - 1} 0 0"
    grid = ElementTree.SubElement(root, "StructuredGrid", WholeExtent=extent)
    description = f"height: {scale.formula(column)}. {scale.sentence(values, column)}".strip()
    _text(ElementTree.SubElement(grid, "FieldData"), "description", description)
    piece = ElementTree.SubElement(grid, "Piece", Extent=extent)
    data = ElementTree.SubElement(piece, "PointData", Scalars="height")
    for name, array in arrays.items():
        _array(data, array.ravel().astype("<f8"), Name=name, type="Float64")
    for name, flags in {"computed": computed, "clipped": scale.is_clipped(values) | np.isnan(values)}.items():
        _array(data, flags.ravel().astype("u1"), Name=name, type="UInt8")
    points = np.stack([x.ravel(), y.ravel(), height.ravel()], axis=1).astype("<f8")
    _array(ElementTree.SubElement(piece, "Points"), points, Name="points", type="Float64", NumberOfComponents="3")
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _array(parent: ElementTree.Element, values: np.ndarray, **attributes: str) -> None:
    """VTK's inline binary form: the number of bytes as UInt64 and the bytes, in base64 together."""
    data = values.tobytes()
    element = ElementTree.SubElement(parent, "DataArray", {**attributes, "format": "binary"})
    element.text = base64.b64encode(len(data).to_bytes(8, "little") + data).decode("ascii")


def _text(parent: ElementTree.Element, name: str, text: str) -> None:
    """VTK's form of a text: the codes of its characters, ended by a zero."""
    attributes = {"type": "String", "Name": name, "NumberOfTuples": "1", "format": "ascii"}
    ElementTree.SubElement(parent, "DataArray", attributes).text = " ".join(str(code) for code in [*text.encode(), 0])


def _grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if column not in table:
        raise ReplicationError(f"The surface has no column '{column}'; its columns are {', '.join(table.columns)}.")
    alphas, betas = table["alpha"].nunique(), table["beta"].nunique()
    if len(table) != alphas * betas or table.duplicated(["alpha", "beta"]).any() or not len(table):
        raise ReplicationError(f"The surface has {len(table)} points and not {alphas} x {betas}; give every point of one grid once.")
    return as_grid(table, column)


def html(
    surfaces: Mapping[str, pd.DataFrame],
    heading: str = "Loss surfaces",
    *,
    column: str = "loss",
    ceiling: float | None = CEILING,
    logarithmic: bool | None = None,
) -> str:
    """A page that shows surfaces by title and turns them: one file of plain JavaScript that loads nothing from elsewhere.

    Drag or use the arrow keys to turn, the wheel or two fingers to zoom, a double click to go back. All surfaces have the same
    heights and colours. The page says how many points lie above the ceiling and how many are not finite (gaps in the surface).
    ``#surface=1&yaw=0.5&pitch=0.6&zoom=1`` at the end of the address sets a view.

    Args:
        surfaces: tables by title, as ``landscape.surface`` returns them; values are rounded to four digits.
        heading: of the page.
        column: what height and colour show.
        ceiling, logarithmic: as in ``heights.height_scale``, for all surfaces together.

    Raises:
        ReplicationError: no surface, one whose points form no grid or that lacks the column, or a scale that does not fit.

    Example:
        >>> table = pd.DataFrame({"alpha": [0, 1, 0, 1], "beta": [0, 0, 1, 1], "loss": [0.0, 1.0, 1.0, 20.0]})
        >>> page = html({"A plane": table})
        >>> page.startswith("<!doctype html>"), "1 of 4 points lie above 10 and are drawn at it" in page
        (True, True)
    """
    if not surfaces:
        raise ReplicationError("No surface was given for the page; give one or more tables by title.")
    grids = {title: _grid(table, column) for title, table in surfaces.items()}
    scale = height_scale(np.concatenate([values.ravel() for values, _, _ in grids.values()]), ceiling=ceiling, logarithmic=logarithmic)
    entries = [_entry(title, *grid, scale=scale, column=column) for title, grid in grids.items()]
    settings = dataclasses.asdict(scale) | {"offset": OFFSET, "ticks": scale.ticks(), "column": column}
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(heading=heading, column=column, formula=scale.formula(column), surfaces=_json(entries), scale=_json(settings))


def _entry(title: str, values: np.ndarray, alphas: np.ndarray, betas: np.ndarray, *, scale: HeightScale, column: str) -> dict[str, object]:
    rounded = [[float(f"{value:.4g}") if np.isfinite(value) else None for value in row] for row in values]
    axes = {"alphas": np.round(alphas, 6).tolist(), "betas": np.round(betas, 6).tolist()}
    return {"title": title, **axes, "values": rounded, "hidden": scale.sentence(values, column)}


def _json(value: object) -> Markup:
    """JSON for a script, in which no text can end the script."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))  # noqa: S704 - every < is escaped
