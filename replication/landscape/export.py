"""Surfaces as files to look at in three dimensions: a page for any browser (``export.html.jinja``), and a grid for ParaView.

Heights are log(min(loss, 10) + 0.1), as in the paper's renderings: the official export clips at 10 (``--zmax``) and takes the
logarithm of the loss plus 0.1 (``--log``).
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup

from replication.errors import ReplicationError
from replication.landscape.grid import as_grid

CEILING, OFFSET = 10.0, 0.1
TEMPLATE = Path(__file__).with_suffix(".html.jinja")


def heights(loss: np.ndarray) -> np.ndarray:
    """log(min(loss, 10) + 0.1) in the shape of ``loss``; an infinite loss lies at the ceiling, nan stays nan.

    Example:
        >>> heights(np.array([0.9, 10.0, np.inf, np.nan])).round(3)
        array([0.   , 2.313, 2.313,   nan])
    """
    return np.log(np.minimum(loss, CEILING) + OFFSET)


def vts(table: pd.DataFrame) -> bytes:
    """A surface as a VTK XML structured grid: one file with its binary arrays inside, read by ParaView and VTK.

    Points are (alpha, beta, height), alpha varying fastest. A loss that is nan lies at the ceiling, since a viewer cannot place
    it. Arrays at the points: ``height``, the true ``loss`` (inf and nan kept), ``accuracy`` if the table has it, ``computed``.

    Args:
        table: columns alpha, beta, loss, and optionally accuracy and computed, as ``landscape.surface`` returns them.

    Returns:
        The bytes of a ``.vts`` file.

    Raises:
        ReplicationError: points of the grid that are missing or occur twice.

    Example:
        >>> table = pd.DataFrame({"alpha": [0, 1, 0, 1], "beta": [0, 0, 1, 1], "loss": [0.0, 1.0, 1.0, 2.0]})
        >>> b"StructuredGrid" in vts(table)
        True
    """
    loss, alphas, betas = _grid(table, "loss")
    x, y = np.meshgrid(alphas, betas)
    height = np.nan_to_num(heights(loss), nan=np.log(CEILING + OFFSET))
    arrays = {"height": height, "loss": loss}
    if "accuracy" in table:
        arrays["accuracy"] = as_grid(table, "accuracy")[0]
    computed = as_grid(table, "computed")[0] if "computed" in table else np.ones_like(loss)
    root = ElementTree.Element("VTKFile", type="StructuredGrid", version="1.0", byte_order="LittleEndian", header_type="UInt64")
    extent = f"0 {len(alphas) - 1} 0 {len(betas) - 1} 0 0"
    piece = ElementTree.SubElement(ElementTree.SubElement(root, "StructuredGrid", WholeExtent=extent), "Piece", Extent=extent)
    data = ElementTree.SubElement(piece, "PointData", Scalars="height")
    for name, values in arrays.items():
        _array(data, values.ravel().astype("<f8"), Name=name, type="Float64")
    _array(data, computed.ravel().astype("u1"), Name="computed", type="UInt8")
    points = np.stack([x.ravel(), y.ravel(), height.ravel()], axis=1).astype("<f8")
    _array(ElementTree.SubElement(piece, "Points"), points, Name="points", type="Float64", NumberOfComponents="3")
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _array(parent: ElementTree.Element, values: np.ndarray, **attributes: str) -> None:
    """VTK's inline binary form: the number of bytes as UInt64 and the bytes, in base64 together."""
    data = values.tobytes()
    element = ElementTree.SubElement(parent, "DataArray", {**attributes, "format": "binary"})
    element.text = base64.b64encode(len(data).to_bytes(8, "little") + data).decode("ascii")


def _grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    alphas, betas = table["alpha"].nunique(), table["beta"].nunique()
    if len(table) != alphas * betas or table.duplicated(["alpha", "beta"]).any() or not len(table):
        raise ReplicationError(f"The surface has {len(table)} points and not {alphas} x {betas}; give every point of one grid once.")
    return as_grid(table, column)


def html(surfaces: Mapping[str, pd.DataFrame], heading: str = "Loss surfaces") -> str:
    """A page that shows surfaces by title and turns them: one file of plain JavaScript that loads nothing from elsewhere.

    Drag or use the arrow keys to turn, the wheel or two fingers to zoom, a double click to go back. All surfaces have the same
    heights and colours. Points that are not finite are gaps, and the page counts them. ``#surface=1&yaw=0.5&pitch=0.6&zoom=1`` at
    the end of the address sets a view.

    Args:
        surfaces: tables by title, as ``landscape.surface`` returns them; losses are rounded to four digits.
        heading: of the page.

    Raises:
        ReplicationError: no surface, or one whose points form no grid.

    Example:
        >>> table = pd.DataFrame({"alpha": [0, 1, 0, 1], "beta": [0, 0, 1, 1], "loss": [0.0, 1.0, 1.0, 2.0]})
        >>> page = html({"A plane": table})
        >>> page.startswith("<!doctype html>"), "A plane" in page
        (True, True)
    """
    if not surfaces:
        raise ReplicationError("No surface was given for the page; give one or more tables by title.")
    grids = []
    for title, table in surfaces.items():
        loss, alphas, betas = _grid(table, "loss")
        values = [[float(f"{value:.4g}") if np.isfinite(value) else None for value in row] for row in loss]
        grids.append({"title": title, "alphas": np.round(alphas, 6).tolist(), "betas": np.round(betas, 6).tolist(), "loss": values})
    data = json.dumps(grids, separators=(",", ":")).replace("<", "\\u003c")  # a title that holds </script> does not end the script
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(heading=heading, surfaces=Markup(data))  # noqa: S704 - JSON whose every < is escaped above
