"""Surfaces as files: what is written is what was measured, and nothing in a title escapes."""

import base64
import json
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from replication.errors import ReplicationError
from replication.landscape import export
from replication.landscape.heights import height_scale


def table_of(alphas: int = 5, betas: int = 3) -> pd.DataFrame:
    """A surface with an infinite loss, one that is nan, and a point that was not computed."""
    x, y = (grid.ravel() for grid in np.meshgrid(np.linspace(-1, 1, alphas), np.linspace(-1, 1, betas)))
    table = pd.DataFrame({"alpha": x, "beta": y, "computed": True, "loss": 0.01 + 20 * (x**2 + y**2), "accuracy": 1 - x**2})
    table.loc[0, "loss"], table.loc[4, "loss"] = np.inf, np.nan
    table.loc[1, ["loss", "accuracy", "computed"]] = np.nan, np.nan, False
    return table


def arrays_of(written: bytes) -> dict[str, np.ndarray]:
    by_name = {}
    for array in ElementTree.fromstring(written).iter("DataArray"):  # noqa: S314
        if array.attrib["format"] == "ascii":
            continue
        data = base64.b64decode(array.text or "")
        assert int.from_bytes(data[:8], "little") == len(data) - 8
        by_name[array.attrib["Name"]] = np.frombuffer(data[8:], {"Float64": "<f8", "UInt8": "u1"}[array.attrib["type"]])
    return by_name


def description_of(written: bytes) -> str:
    """The field's text: codes of characters, ended by a zero."""
    (array,) = (array for array in ElementTree.fromstring(written).iter("DataArray") if array.attrib["format"] == "ascii")  # noqa: S314
    *codes, end = (int(code) for code in (array.text or "").split())
    assert end == 0
    return bytes(codes).decode()


def embedded(page: str, name: str = "surfaces") -> Any:
    return json.loads(re.search(rf"const {name} = (.*);\n", page)[1])  # type: ignore[index]


def test_a_structured_grid_holds_every_number() -> None:
    table = table_of()
    written = export.vts(table)
    root = ElementTree.fromstring(written)  # noqa: S314
    assert root.attrib == {"type": "StructuredGrid", "version": "1.0", "byte_order": "LittleEndian", "header_type": "UInt64"}
    assert {piece.attrib["Extent"] for piece in root.iter("Piece")} == {"0 4 0 2 0 0"}
    arrays = arrays_of(written)
    np.testing.assert_array_equal(arrays["loss"], table["loss"])
    np.testing.assert_array_equal(arrays["accuracy"], table["accuracy"])
    np.testing.assert_array_equal(arrays["computed"], table["computed"])
    points = arrays["points"].reshape(-1, 3)
    np.testing.assert_array_equal(points[:, :2], table[["alpha", "beta"]])
    np.testing.assert_array_equal(points[:, 2], arrays["height"])
    np.testing.assert_allclose(arrays["height"], np.log(np.minimum(table["loss"].fillna(np.inf), 10) + 0.1))
    np.testing.assert_array_equal(arrays["clipped"], ~(table["loss"] <= 10))
    clipped = int((table["loss"] > 10).sum())
    assert description_of(written) == (
        f"height: log(min(loss, 10) + 0.1). {clipped} of 15 points lie above 10 and are drawn at it; 3 points have no finite loss."
    )
    assert export.vts(table.sample(frac=1, random_state=0)) == written


def test_a_table_of_losses_alone_is_enough() -> None:
    arrays = arrays_of(export.vts(table_of()[["alpha", "beta", "loss"]]))
    assert set(arrays) == {"height", "loss", "computed", "clipped", "points"}
    assert arrays["computed"].all()


def test_the_page_holds_the_losses_and_gaps() -> None:
    table = table_of(21, 21)
    page = export.html({"one": table, "two": table})
    shown = embedded(page)
    assert [surface["title"] for surface in shown] == ["one", "two"]
    losses = np.array(shown[0]["values"], dtype=float)
    np.testing.assert_allclose(losses, np.where(np.isfinite(table["loss"]), table["loss"], np.nan).reshape(21, 21), rtol=1e-3)
    assert np.isnan(losses).sum() == 3
    assert len(page) < 200_000
    clipped = int((table["loss"] > 10).sum())
    assert shown[0]["hidden"] == f"{clipped} of 441 points lie above 10 and are drawn at it; 3 points have no finite loss."


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
    with pytest.raises(ReplicationError, match="no column 'curvature'; its columns are alpha, beta"):
        export.html({"one": table_of()}, column="curvature")


def test_a_page_of_another_column_without_ceiling() -> None:
    table = table_of()
    page = export.html({"one": table}, column="accuracy", ceiling=None, logarithmic=False)
    scale = embedded(page, "scale")
    assert scale["column"] == "accuracy"
    assert (scale["low"], scale["high"], scale["ceiling"], scale["logarithmic"]) == (0, 1, None, False)
    assert "Height and colour: accuracy," in page
    assert embedded(page)[0]["hidden"] == "1 points have no finite accuracy."
    arrays = arrays_of(export.vts(table, column="accuracy", ceiling=None, logarithmic=False))
    np.testing.assert_array_equal(arrays["height"], table["accuracy"].fillna(1))


@pytest.mark.parametrize("ceiling", [10.0, 1.0, -2.0, None])
@pytest.mark.parametrize("logarithmic", [True, False, None])
@pytest.mark.parametrize("values", [[-5.0, -1, 0.5, 100, 5000], [0.0, 1e-9, 10, 1e30], [2.0, 2, 2], [-np.inf, 3, np.inf], [-0.1, -0.05, 0]])
def test_heights_never_fall_where_the_values_rise(values: list[float], logarithmic: bool | None, ceiling: float | None) -> None:
    array = np.array(values)
    finite = array[np.isfinite(array)]
    if logarithmic and (finite.min() <= -0.1 or (ceiling is not None and ceiling <= -0.1)):
        with pytest.raises(ReplicationError, match=r"logarithm|above -0\.1"):
            height_scale(array, logarithmic=True, ceiling=ceiling)
        return
    scale = height_scale(array, logarithmic=logarithmic, ceiling=ceiling)
    heights = scale.heights(array)
    assert np.isfinite(heights).all()
    assert (np.diff(heights) >= 0).all()
    shown = ~scale.is_clipped(array) & np.isfinite(array)
    assert (np.diff(heights[shown])[np.diff(array[shown]) > 1e-6] > 0).all(), "what is not clipped keeps its order"
    assert (heights <= scale.high + 1e-12).all()
    ticks = scale.ticks()
    assert len(ticks) <= 40
    assert (np.diff(ticks) > 0).all()
    assert int(scale.is_clipped(array).sum()) == (0 if ceiling is None else int((array > ceiling).sum()))
    assert ("drawn at it" in scale.sentence(array, "loss")) == bool(scale.is_clipped(array).any())
