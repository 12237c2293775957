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
from urllib.parse import quote

import jinja2

from replication.claims.results import VERDICTS, FigureVerdicts, JudgedClaim, read_verdicts
from replication.claims.verdicts import COUNTED, count_text, counted_as, kind_text
from replication.errors import ReplicationError
from replication.files.atomic import atomic

TEMPLATE = Path(__file__).with_suffix(".html.jinja")
TRUST = {
    "confirmed": "confirmed against the paper",
    "secondary": "from a secondary source",
    "recalled": "recalled, not checked: decides nothing",
    "none": "no number published",
}
_FAR = 4  # a control or published value further away than this many spans of everything else is pointed at, not drawn


@dataclasses.dataclass(frozen=True)
class Plot:
    """Where the marks of one claim lie, as shares of the axis (0 left, 1 right).

    Attributes:
        seeds: place and text of each finite estimate; ``mean`` and ``interval`` of their mean, None where there is none.
        region: left and right end of the acceptance region, None where nothing is accepted at this scale; ``edges`` where it is not open.
        published, control: their places, clipped to the axis; None where there is none.
        published_beyond, control_beyond: "left" or "right" where they lie outside of the axis, else "".
        ticks: place and label.
    """

    seeds: list[tuple[float, str]]
    mean: float | None
    interval: tuple[float, float] | None
    region: tuple[float, float] | None
    edges: list[float]
    published: float | None
    published_beyond: str
    control: float | None
    control_beyond: str
    ticks: list[tuple[float, str]]


def plot(verdict: JudgedClaim) -> Plot | None:
    """The marks of one verdict; None where no seed gave a finite estimate."""
    seeds = [(seed, value) for seed, value in verdict.estimates.items() if value is not None]
    if not seeds:
        return None
    interval = None if verdict.low is None or verdict.high is None else (verdict.low, verdict.high)
    closed_edges = [edge for edge in (verdict.low_edge, verdict.high_edge) if edge is not None]
    shown = [value for _, value in seeds] + list(interval or ()) + closed_edges
    left, right = _axis(shown, [verdict.published_number, verdict.control_mean])

    def place(value: float) -> float:
        return (value - left) / (right - left)

    def clipped(value: float | None) -> tuple[float | None, str]:
        if value is None:
            return None, ""
        return min(max(place(value), 0.0), 1.0), "left" if value < left else "right" if value > right else ""

    published, published_beyond = clipped(verdict.published_number)
    control, control_beyond = clipped(verdict.control_mean)
    return Plot(
        seeds=[(place(value), f"seed {seed}: {value:.4g}") for seed, value in seeds],
        mean=None if verdict.mean is None else place(verdict.mean),
        interval=(place(interval[0]), place(interval[1])) if interval else None,
        region=(place(_or(verdict.low_edge, left)), place(_or(verdict.high_edge, right))) if verdict.region else None,
        edges=[place(edge) for edge in closed_edges],
        published=published,
        published_beyond=published_beyond,
        control=control,
        control_beyond=control_beyond,
        ticks=[(place(tick), f"{tick:.4g}") for tick in ticks(left, right)],
    )


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _axis(shown: Sequence[float], others: Iterable[float | None]) -> tuple[float, float]:
    """Ends of an axis that holds all of ``shown``, and each of ``others`` that leaves the rest readable."""
    low, high = min(shown), max(shown)
    span = (high - low) or abs(high) or 1.0
    near = [each for each in others if each is not None and low - _FAR * span <= each <= high + _FAR * span]
    low, high = min([low, *near]), max([high, *near])
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
        ReplicationError: no verdict file is given, or one is missing, damaged or of an earlier version of this package.
    """
    if not verdict_files:
        raise ReplicationError("A page of claims needs at least one file of verdicts; name results/SCALE/PAPER/figures/*.verdicts.json.")
    figures = [(read_verdicts(path), _link(path, out)) for path in verdict_files]
    with atomic(out) as temporary:
        temporary.write_text(page(figures), encoding="utf-8")


def _link(verdict_file: Path, out: Path) -> str:
    """From the page to the picture beside a verdict file."""
    picture = str(verdict_file).removesuffix(VERDICTS) + ".png"
    return quote(Path(os.path.relpath(picture, out.parent)).as_posix())


@dataclasses.dataclass(frozen=True)
class Card:
    """One claim as the template shows it: the verdict, words for it, and its drawing."""

    verdict: JudgedClaim
    kind: str
    marks: list[str]
    trust: str
    measured: str
    by_seed: str
    under_control: str
    plot: Plot | None


@dataclasses.dataclass(frozen=True)
class FigureSection:
    """The claims of one figure and the link to its picture."""

    figure: FigureVerdicts
    link: str
    cards: list[Card]


@dataclasses.dataclass(frozen=True)
class PaperSection:
    """The figures of one paper."""

    title: str
    figures: list[FigureSection]

    @property
    def counts(self) -> Counter[str]:
        """Claims by kind of verdict."""
        return Counter(card.kind for section in self.figures for card in section.cards)


def page(figures: Iterable[tuple[FigureVerdicts, str]]) -> str:
    """The page of the verdicts on several figures, each with the link to its picture."""
    papers: dict[str, PaperSection] = {}
    for figure, link in figures:
        section = FigureSection(figure=figure, link=link, cards=[_card(verdict) for verdict in figure.verdicts])
        papers.setdefault(figure.paper, PaperSection(title=figure.title, figures=[])).figures.append(section)
    sections = [section for paper in papers.values() for section in paper.figures]
    verdicts = [card.verdict for section in sections for card in section.cards]
    # trim_blocks: the template's own lines leave no empty ones behind
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        papers=papers,
        kinds=COUNTED,
        words=kind_text,
        counts=Counter(card.kind for section in sections for card in section.cards),
        scales=sorted({section.figure.scale for section in sections}),
        n_claims=len(verdicts),
        n_required=sum(verdict.required for verdict in verdicts),
        required=count_text(Counter(counted_as(verdict) for verdict in verdicts if verdict.required)),
    )


def _card(verdict: JudgedClaim) -> Card:
    elsewhere = bool(verdict.discrepancy) and verdict.outcome != "not_reproduced"
    marks = [text for holds, text in ((verdict.post_hoc, "post hoc"), (elsewhere, "a discrepancy elsewhere")) if holds]
    finite = [f"seed {seed}: {value:.4g}" for seed, value in verdict.estimates.items() if value is not None]
    not_finite = [f"seed {seed}: not finite" for seed, value in verdict.estimates.items() if value is None]
    return Card(
        verdict=verdict,
        kind=counted_as(verdict),
        marks=marks,
        trust=TRUST.get(verdict.trust, verdict.trust),
        measured=measured(verdict),
        by_seed="; ".join(finite + not_finite),
        under_control=under_control(verdict),
        plot=plot(verdict),
    )


def measured(verdict: JudgedClaim) -> str:
    """Mean and interval in words; "" where there is no estimate."""
    if not verdict.estimates:
        return ""
    if verdict.mean is None:
        return "not finite in every seed"
    unit = f" {verdict.unit}" if verdict.unit else ""
    one_seed = verdict.low is None or verdict.high is None
    interval = "[one seed: no interval]" if one_seed else f"[{verdict.low:.4g}, {verdict.high:.4g}]"
    seeds = "" if one_seed else f", {len(verdict.estimates)} seeds"
    return f"{verdict.mean:.4g} {interval}{unit}{seeds}"


def under_control(verdict: JudgedClaim) -> str:
    """What the same rule says with the mechanism broken; the claim must fall there."""
    falls = {"": "not judged at this scale", "reproduced": "HOLDS as well, so the claim proves nothing"}
    words = falls.get(verdict.control, f"the claim falls ({verdict.control.replace('_', ' ')})")
    return words if verdict.control_mean is None else f"{verdict.control_mean:.4g}: {words}"
