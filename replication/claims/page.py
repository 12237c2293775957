"""Every claim on one page of HTML that needs no network: what ``replicate claims`` prints, drawn, with filters.

Everything variable goes through Jinja's autoescape; this module computes what is said and where marks lie, the template beside it
how they look.
"""

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import jinja2

from replication.claims.verdicts import Outcome
from replication.files.atomic import atomic
from replication.pipeline.judging import read_verdicts

TEMPLATE = Path(__file__).with_suffix(".html.jinja")
OUTCOMES: tuple[str, ...] = get_args(Outcome)
TRUST = {
    "confirmed": "confirmed against the paper",
    "secondary": "from a secondary source",
    "recalled": "recalled, not checked: gates nothing",
    "none": "no number published",
}
_FAR = 4  # a control further away than this many spans of everything else is pointed at, not drawn


@dataclasses.dataclass(frozen=True)
class Plot:
    """Where the marks of one claim lie, as shares of the axis (0 left, 1 right).

    Attributes:
        seeds: place and text of each finite estimate; ``mean`` and ``interval`` of their mean, None where there is none.
        region: left and right end of the acceptance region, None where nothing is accepted at this scale; ``edges`` where it is not open.
        control: its place, clipped to the axis; ``beyond`` is "left" or "right" where it lies outside.
        ticks: place and label.
    """

    seeds: list[tuple[float, str]]
    mean: float | None
    interval: tuple[float, float] | None
    region: tuple[float, float] | None
    edges: list[float]
    control: float | None
    beyond: str
    ticks: list[tuple[float, str]]


def plot(entry: dict[str, Any]) -> Plot | None:
    """The marks of one verdict; None where no seed gave a finite estimate."""
    seeds = [(seed, value) for seed, value in entry["estimates"].items() if value is not None]
    if not seeds:
        return None
    has_interval = entry["low"] is not None and entry["high"] is not None
    edges = [entry["low_edge"], entry["high_edge"]]
    closed = [edge for edge in edges if edge is not None]
    shown = [value for _, value in seeds] + [entry["low"], entry["high"]] * has_interval + closed
    left, right = _axis(shown, entry["control_mean"])

    def place(value: float) -> float:
        return (value - left) / (right - left)

    control = entry["control_mean"]
    return Plot(
        seeds=[(place(value), f"seed {seed}: {value:.4g}") for seed, value in seeds],
        mean=None if entry["mean"] is None else place(entry["mean"]),
        interval=(place(entry["low"]), place(entry["high"])) if has_interval else None,
        region=(place(_or(edges[0], left)), place(_or(edges[1], right))) if entry["region"] else None,
        edges=[place(edge) for edge in closed],
        control=None if control is None else min(max(place(control), 0.0), 1.0),
        beyond="" if control is None or left <= control <= right else ("left" if control < left else "right"),
        ticks=[(place(tick), f"{tick:.4g}") for tick in ticks(left, right)],
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _axis(shown: Sequence[float], control: float | None) -> tuple[float, float]:
    """Ends of an axis that holds all of ``shown``, and the control where that leaves the rest readable."""
    low, high = min(shown), max(shown)
    span = (high - low) or abs(high) or 1.0
    if control is not None and low - _FAR * span <= control <= high + _FAR * span:
        low, high = min(low, control), max(high, control)
    margin = 0.08 * ((high - low) or span)
    return low - margin, high + margin


def ticks(left: float, right: float, most: int = 5) -> list[float]:
    """At most ``most`` round numbers inside [left, right], evenly spaced by 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((right - left) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(left / step), math.floor(right / step)
        if last - first < most:
            return [number * step for number in range(first, last + 1)]
    raise AssertionError("a step of 20 leaves at most three")


def write(verdict_files: Sequence[Path], out: Path) -> None:
    """Write the page of the claims in ``verdict_files`` (as `replicate judge` writes them), with links relative to ``out``.

    Raises:
        ReplicationError: a verdict file is missing, damaged or of an earlier version of this package.
    """
    contents = [_linked(path, out) for path in verdict_files]
    with atomic(out) as temporary:
        temporary.write_text(page(contents), encoding="utf-8")


def _linked(path: Path, out: Path) -> dict[str, Any]:
    """A verdict file and the ``link`` to the picture beside it."""
    content = read_verdicts(path)
    picture = str(path).removesuffix(".verdicts.json") + ".png"
    return content | {"link": quote(Path(os.path.relpath(picture, out.parent)).as_posix())}


def page(contents: Iterable[dict[str, Any]]) -> str:
    """The page of verdict files already read; each may bear the ``link`` to its picture."""
    papers: dict[str, dict[str, Any]] = {}
    for content in contents:
        paper = papers.setdefault(content["paper"], {"title": content["title"], "figures": []})
        paper["figures"].append(content | {"claims": [_claim(entry) for entry in content["verdicts"]]})
    for paper in papers.values():
        paper["counts"] = Counter(claim["outcome"] for figure in paper["figures"] for claim in figure["claims"])
    counts = sum((paper["counts"] for paper in papers.values()), Counter[str]())
    claims = [claim for paper in papers.values() for figure in paper["figures"] for claim in figure["claims"]]
    scales = sorted({figure["scale"] for paper in papers.values() for figure in paper["figures"]})
    required = [claim for claim in claims if claim["required"]]
    # trim_blocks: the template's own lines leave no empty ones behind
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        papers=papers,
        outcomes=OUTCOMES,
        counts=counts,
        scales=scales,
        n_claims=len(claims),
        required=Counter(claim["outcome"] for claim in required),
        n_known=sum(bool(claim["discrepancy"]) for claim in required),
    )


def _claim(entry: dict[str, Any]) -> dict[str, Any]:
    """A verdict with the words and the drawing that the template shows."""
    marks = [text for key, text in (("post_hoc", "post hoc"), ("discrepancy", "known discrepancy")) if entry[key]]
    missing = [f"seed {seed}: not finite" for seed, value in entry["estimates"].items() if value is None]
    return entry | {
        "marks": marks,
        "trust_words": TRUST.get(entry["trust"], entry["trust"]),
        "measured": measured(entry),
        "by_seed": "; ".join([f"seed {s}: {v:.4g}" for s, v in entry["estimates"].items() if v is not None] + missing),
        "under_control": under_control(entry),
        "plot": plot(entry),
    }


def measured(entry: dict[str, Any]) -> str:
    """Mean and interval in words; "" where there is no estimate."""
    if not entry["estimates"]:
        return ""
    if entry["mean"] is None:
        return "not finite in every seed"
    unit = f" {entry['unit']}" if entry["unit"] else ""
    spread = f"[{entry['low']:.4g}, {entry['high']:.4g}]" if None not in (entry["low"], entry["high"]) else "[one seed: no interval]"
    return f"{entry['mean']:.4g} {spread}{unit}"


def under_control(entry: dict[str, Any]) -> str:
    """What the same rule says with the mechanism broken; the claim must fall there."""
    falls = {"": "not judged at this scale", "reproduced": "HOLDS as well, so the claim proves nothing"}
    verdict = falls.get(entry["control"], f"the claim falls ({entry['control'].replace('_', ' ')})")
    return verdict if entry["control_mean"] is None else f"{entry['control_mean']:.4g}: {verdict}"
