"""Surfaces as files: what is written is what was measured, and nothing in a title escapes."""

import base64
import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from replication.errors import ReplicationError
from replication.landscape import export


def table_of(alphas: int = 5, betas: int = 3) -> pd.DataFrame:
    """A surface with an infinite loss, one that is nan, and a point that was not computed."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, alphas), np.linspace(-1, 1, betas)))
    table = pd.DataFrame({"alpha": x, "beta": y, "computed": True, "loss": 0.01 + 20 * (x**2 + y**2), "accuracy": 1 - x**2})
    table.loc[0, "loss"], table.loc[4, "loss"] = np.inf, np.nan
    table.loc[1, ["loss", "accuracy", "computed"]] = np.nan, np.nan, False
    return table


def arrays_of(written: bytes) -> dict[str, np.ndarray]:
    found = {}
    for array in ElementTree.fromstring(written).iter("DataArray"):  # noqa: S314
        data = base64.b64decode(array.text or "")
        assert int.from_bytes(data[:8], "little") == len(data) - 8
        found[array.attrib["Name"]] = np.frombuffer(data[8:], {"Float64": "<f8", "UInt8": "u1"}[array.attrib["type"]])
    return found


def embedded(page: str) -> list[dict[str, object]]:
    return json.loads(re.search(r"const surfaces = (.*);\n", page)[1])  # type: ignore[index]


def test_a_structured_grid_holds_every_number() -> None:
    table = table_of()
    written = export.vts(table)
    root = ElementTree.fromstring(written)  # noqa: S314
    assert root.attrib == {"type": "StructuredGrid", "version": "1.0", "byte_order": "LittleEndian", "header_type": "UInt64"}
    assert {piece.attrib["Extent"] for piece in root.iter("Piece")} == {"0 4 0 2 0 0"}
    found = arrays_of(written)
    np.testing.assert_array_equal(found["loss"], table["loss"])
    np.testing.assert_array_equal(found["accuracy"], table["accuracy"])
    np.testing.assert_array_equal(found["computed"], table["computed"])
    points = found["points"].reshape(-1, 3)
    np.testing.assert_array_equal(points[:, :2], table[["alpha", "beta"]])
    np.testing.assert_array_equal(points[:, 2], found["height"])
    np.testing.assert_allclose(found["height"], np.log(np.minimum(table["loss"].fillna(np.inf), 10) + 0.1))
    assert export.vts(table.sample(frac=1, random_state=0)) == written


def test_a_table_of_losses_alone_is_enough() -> None:
    found = arrays_of(export.vts(table_of()[["alpha", "beta", "loss"]]))
    assert set(found) == {"height", "loss", "computed", "points"}
    assert found["computed"].all()


def test_the_page_holds_the_losses_and_gaps() -> None:
    table = table_of(21, 21)
    page = export.html({"one": table, "two": table})
    shown = embedded(page)
    assert [surface["title"] for surface in shown] == ["one", "two"]
    losses = np.array(shown[0]["loss"], dtype=float)
    np.testing.assert_allclose(losses, np.where(np.isfinite(table["loss"]), table["loss"], np.nan).reshape(21, 21), rtol=1e-3)
    assert np.isnan(losses).sum() == 3
    assert len(page) < 200_000


def test_the_page_needs_nothing_from_outside_and_titles_stay_text() -> None:
    title = "</script><img src=x onerror=alert(1)> $surfaces"
    page = export.html({title: table_of()}, heading="<b> & $heading")
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|src=|@import|url\(", page.replace("img src=x", ""))
    assert page.count("</script>") == 1
    assert "<img" not in page
    assert "<h1>&lt;b&gt; &amp; $heading</h1>" in page
    assert embedded(page)[0]["title"] == title


def test_surfaces_that_are_no_grid_are_refused() -> None:
    for broken in (table_of().iloc[1:], table_of().iloc[[0, 0, 2]], table_of().iloc[:0]):
        with pytest.raises(ReplicationError, match="every point of one grid once"):
            export.vts(broken)
    with pytest.raises(ReplicationError, match="No surface"):
        export.html({})
