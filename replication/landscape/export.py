"""A surface's table as files that turn in three dimensions: for ParaView, and a page for any browser.

Heights are log(min(S, 10) + 0.1), those of the paper's renderings (the official export clips at ``--zmax 10`` and takes ``--log``).
"""

import base64
import json
from collections.abc import Mapping
from html import escape
from string import Template
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from replication.errors import ReplicationError
from replication.landscape.surface_measures import as_grid

CEILING, OFFSET = 10.0, 0.1


def heights(loss: np.ndarray) -> np.ndarray:
    """log(min(loss, 10) + 0.1); infinite losses are at the ceiling, nan stays nan."""
    return np.log(np.minimum(loss, CEILING) + OFFSET)


def vts(table: pd.DataFrame) -> bytes:
    """A surface as a VTK XML structured grid: one file, binary arrays inline, read by ParaView and VTK.

    Points are (alpha, beta, height), alpha varying fastest; a loss that is nan lies at the ceiling too, since viewers cannot place
    it. Arrays at the points: ``height``, the true ``loss`` (inf and nan kept), ``accuracy`` where the table has it, ``computed``.

    Args:
        table: columns alpha, beta, loss, and accuracy and computed if there are any, as ``landscape.surface`` returns them.

    Raises:
        ReplicationError: points that are missing from the grid or there twice.
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
    found = ElementTree.SubElement(parent, "DataArray", {**attributes, "format": "binary"})
    found.text = base64.b64encode(len(data).to_bytes(8, "little") + data).decode("ascii")


def _grid(table: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    alphas, betas = table["alpha"].nunique(), table["beta"].nunique()
    if len(table) != alphas * betas or table.duplicated(["alpha", "beta"]).any() or not len(table):
        raise ReplicationError(f"The surface has {len(table)} points and not {alphas} x {betas}; give every point of one grid once.")
    return as_grid(table, column)


def html(surfaces: Mapping[str, pd.DataFrame], heading: str = "Loss surfaces") -> str:
    """A page that shows surfaces by title and turns them: one file, no network, plain JavaScript on a canvas.

    Drag or arrow keys turn, the wheel or two fingers zoom, a double click goes back. Heights and colours are the same for all
    surfaces; points that are not finite are gaps, and counted. ``#surface=1&yaw=0.5&pitch=0.6&zoom=1`` in the address sets a view.

    Args:
        surfaces: tables by title, as ``landscape.surface`` returns them; losses are kept to four digits.

    Raises:
        ReplicationError: no surface, or one whose points are no grid.
    """
    if not surfaces:
        raise ReplicationError("No surface was given for the page; give one or more tables by title.")
    shown = []
    for title, table in surfaces.items():
        loss, alphas, betas = _grid(table, "loss")
        values = [[float(f"{value:.4g}") if np.isfinite(value) else None for value in row] for row in loss]
        shown.append({"title": title, "alphas": np.round(alphas, 6).tolist(), "betas": np.round(betas, 6).tolist(), "loss": values})
    data = json.dumps(shown, separators=(",", ":")).replace("<", "\\u003c")  # no title ends the script
    return Template(_PAGE).substitute(heading=escape(heading), surfaces=data)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>$heading</title>
<style>
body { margin: 0; font: 15px sans-serif; color: #222; display: flex; flex-direction: column; height: 100vh }
header { padding: 10px 16px 0 } h1 { font-size: 18px; margin: 0 0 8px } select { font: inherit; max-width: 95vw }
p { margin: 6px 0 } canvas { flex: 1; min-height: 0; width: 100%; touch-action: none; cursor: grab } .small { font-size: 12px; color: #666 }
</style></head><body>
<header><h1>$heading</h1><select id="choice" aria-label="surface"></select><p id="facts" aria-live="polite"></p>
<p class="small">Height and colour: log(min(loss, 10) + 0.1), the same for all surfaces. Drag or arrow keys: turn; wheel or two fingers:
zoom; double click: back to the start. <span id="under"></span></p></header>
<canvas id="view" tabindex="0" role="img" aria-label="loss surface"></canvas>
<script>
"use strict";
const surfaces = $surfaces;
const CEILING = 10, OFFSET = 0.1, HOME = { surface: 0, yaw: -0.6, pitch: 0.55, zoom: 1 };
const RAMP = [[68,1,84],[71,45,123],[59,82,139],[44,114,142],[33,145,140],[40,174,128],[94,201,98],[173,220,48],[253,231,37]];
const LOW = Math.log(OFFSET), HIGH = Math.log(CEILING + OFFSET), TALL = 1.3;
const canvas = document.getElementById("view"), choice = document.getElementById("choice"), pen = canvas.getContext("2d");
const level = loss => (Math.log(Math.min(loss, CEILING) + OFFSET) - LOW) / (HIGH - LOW);
const view = Object.assign({}, HOME);
let spots = [];

function colour(at, light) {
  const x = Math.max(0, Math.min(0.9999, at)) * (RAMP.length - 1), i = Math.floor(x), t = x - i;
  return "rgb(" + RAMP[i].map((low, k) => Math.round((low + t * (RAMP[i + 1][k] - low)) * light)).join(",") + ")";
}

function projection(surface) {
  const { alphas, betas } = surface, width = canvas.clientWidth, height = canvas.clientHeight;
  const reach = Math.max(...alphas.map(Math.abs), ...betas.map(Math.abs)), scale = 0.29 * Math.min(width, 1.25 * height) * view.zoom;
  const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
  return (alpha, beta, up) => {
    const x = alpha / reach, y = beta / reach, z = TALL * (up - 0.5), across = cy * x - sy * y, deep = sy * x + cy * y;
    return [0.47 * width + scale * across, 0.5 * height - scale * (cp * z + sp * deep), cp * deep - sp * z];
  };
}

function draw() {
  const surface = surfaces[view.surface], { alphas, betas, loss } = surface, ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio; canvas.height = canvas.clientHeight * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  const to = projection(surface), faces = [];
  spots = [];
  const points = betas.map((beta, j) => alphas.map((alpha, i) => {
    if (loss[j][i] === null) return null;
    const at = to(alpha, beta, level(loss[j][i]));
    spots.push([at[0], at[1], alpha, beta, loss[j][i]]);
    return at;
  }));
  for (let j = 0; j + 1 < betas.length; j++) for (let i = 0; i + 1 < alphas.length; i++) {
    const around = [[j, i], [j, i + 1], [j + 1, i + 1], [j + 1, i]], corners = around.map(([b, a]) => points[b][a]);
    if (corners.includes(null)) continue;
    const [a, b, c, d] = around.map(([row, column]) => level(loss[row][column]));
    const slope = [(b + c - a - d) * alphas.length / 4, (c + d - a - b) * betas.length / 4];
    const light = 0.72 + 0.28 * (1 - 0.6 * slope[0] + 0.5 * slope[1]) / Math.hypot(1, slope[0], slope[1]) / 1.27;
    faces.push([corners.reduce((sum, corner) => sum + corner[2], 0), corners, colour((a + b + c + d) / 4, light)]);
  }
  frame(surface, to);
  faces.sort((one, other) => other[0] - one[0]);
  pen.lineWidth = 1;
  for (const [, corners, paint] of faces) {
    pen.beginPath();
    corners.forEach(([x, y], k) => k ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.closePath();
    pen.fillStyle = pen.strokeStyle = paint;
    pen.fill(); pen.stroke();
  }
  legend();
}

function line(from, end) { pen.beginPath(); pen.moveTo(from[0], from[1]); pen.lineTo(end[0], end[1]); pen.stroke(); }

function frame({ alphas, betas }, to) {
  const [a0, a1, b0, b1] = [alphas[0], alphas[alphas.length - 1], betas[0], betas[betas.length - 1]];
  const floor = [[a0, b0], [a1, b0], [a1, b1], [a0, b1]];
  pen.strokeStyle = "#bbb"; pen.fillStyle = "#444"; pen.lineWidth = 1; pen.font = "13px sans-serif"; pen.textAlign = "center";
  floor.forEach((corner, k) => line(to(...corner, 0), to(...floor[(k + 1) % 4], 0)));
  const near = floor.map(corner => to(...corner, 0)), back = near.reduce((one, at, k) => near[one][0] < at[0] ? one : k, 0);
  line(near[back], to(...floor[back], 1));
  pen.textAlign = "right";
  for (const loss of [0, 0.1, 1, 10]) {
    const at = to(...floor[back], level(loss));
    line(at, [at[0] - 6, at[1]]);
    pen.fillText(loss, at[0] - 9, at[1] + 4);
  }
  pen.textAlign = "center";
  const low = (alpha, beta, name) => { const at = to(alpha, beta, 0); pen.fillText(name, at[0], at[1] + 18); };
  const front = Math.cos(view.yaw) > 0 ? b0 : b1, side = Math.sin(view.yaw) > 0 ? a0 : a1;
  low((a0 + a1) / 2, front, "alpha"); low(side, (b0 + b1) / 2, "beta");
  for (const alpha of [a0, a1]) low(alpha, front, alpha);
  low(side, front === b0 ? b1 : b0, front === b0 ? b1 : b0);
}

function legend() {
  const x = canvas.clientWidth - 80, top = 30, tall = Math.max(80, canvas.clientHeight - 80);
  for (let k = 0; k < tall; k++) { pen.fillStyle = colour(1 - k / tall, 1); pen.fillRect(x, top + k, 16, 1.5); }
  pen.fillStyle = "#444"; pen.textAlign = "left"; pen.font = "12px sans-serif";
  for (const loss of [0, 0.1, 0.3, 1, 3, 10]) {
    pen.fillText((loss < CEILING ? "" : "\\u2265 ") + loss, x + 22, top + tall * (1 - level(loss)) + 4);
  }
  pen.fillText("loss", x, top - 12);
}

function show() {
  const surface = surfaces[view.surface], all = surface.loss.flat(), finite = all.filter(loss => loss !== null);
  choice.value = view.surface;
  const smallest = finite.reduce((a, b) => Math.min(a, b), Infinity), largest = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const range = finite.length ? smallest + " to " + largest : "nowhere finite", gaps = all.length - finite.length;
  document.getElementById("facts").textContent = surface.alphas.length + " x " + surface.betas.length + " points; loss " + range +
    "; " + gaps + " points are not finite (gaps).";
  draw();
}

function turn(yaw, pitch) { view.yaw += yaw; view.pitch = Math.max(0, Math.min(1.57, view.pitch + pitch)); draw(); }
function zoom(factor) { view.zoom = Math.max(0.3, Math.min(8, view.zoom * factor)); draw(); }

function under(x, y) {
  const near = spots.map(spot => [Math.hypot(spot[0] - x, spot[1] - y), spot]).sort((a, b) => a[0] - b[0])[0];
  document.getElementById("under").textContent = near && near[0] < 14 ?
    "At alpha " + near[1][2] + ", beta " + near[1][3] + ": loss " + near[1][4] + "." : "";
}

const fingers = new Map();
const spread = () => { const [a, b] = [...fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]); };
canvas.addEventListener("pointerdown", event => {
  canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, [event.clientX, event.clientY]);
});
canvas.addEventListener("pointermove", event => {
  const last = fingers.get(event.pointerId);
  if (!last) { under(event.offsetX, event.offsetY); return; }
  const before = fingers.size === 2 ? spread() : 0;
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  if (before) zoom(spread() / before);
  else if (fingers.size === 1) turn((event.clientX - last[0]) / 150, (event.clientY - last[1]) / 150);
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, event => fingers.delete(event.pointerId));
canvas.addEventListener("wheel", event => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 600)); }, { passive: false });
canvas.addEventListener("dblclick", () => { Object.assign(view, HOME, { surface: view.surface }); draw(); });
canvas.addEventListener("keydown", event => {
  const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  if (event.key in keys) { event.preventDefault(); turn(...keys[event.key]); }
  if (event.key === "+") zoom(1.1);
  if (event.key === "-") zoom(1 / 1.1);
});
choice.addEventListener("change", () => { view.surface = Number(choice.value); show(); });
window.addEventListener("resize", draw);

function fromAddress() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (name in HOME && Number.isFinite(Number(value))) view[name] = Number(value);
  }
  view.surface = Math.max(0, Math.min(surfaces.length - 1, Math.round(view.surface)));
  show();
}
window.addEventListener("hashchange", fromAddress);
surfaces.forEach((surface, k) => choice.add(new Option(surface.title, k)));
fromAddress();
</script></body></html>
"""
