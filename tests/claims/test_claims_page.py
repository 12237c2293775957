import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from verdict_entries import ENTRY, PLACE, verdict
from verdict_entries import figure_verdicts as figure

from replication.claims import page as claims_page
from replication.claims.page import page, plot, ticks
from replication.claims.results import FigureVerdicts
from replication.errors import ReplicationError

HOSTILE = "<script>alert('x')</script> & \"quoted\" </style>"
VOID = {"meta", "br"}


LINK = "lca/figures/lca_x.png"


def page_of(*figures: FigureVerdicts) -> str:
    return page((figure, LINK) for figure in figures)


class Outline(HTMLParser):
    """Elements with their attributes and all text; every element must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if not self.open or self.open[-1] not in ("style", "script") else ""

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.elements if each == tag]


def test_a_claim_is_shown_whole() -> None:
    known = {"id": "LCA-X2", "outcome": "not_reproduced", "post_hoc": True, "discrepancy": "Off by 7 %. Hypothesis: noise."}
    known["amendments"] = ["2026-01-02, no result had been seen: Wider."]
    outline = Outline(page_of(figure({}, known)))
    text = " ".join(outline.words.split())
    parts = ["It falls.", "negative (Figure 5)", "recalled, not checked", "-1.4 [-2, -1] %, 3 seeds", "seed 0: -1.25", "seed 2: not finite"]
    parts += ["below 0", "analytic", "0.5: the claim falls (not reproduced)", "the sign", "interval inside", "LCA, Figure 9", "post hoc"]
    parts += ["Off by 7 %. Hypothesis: noise.", "changed 2026-01-02, no result had been seen: Wider."]
    for part in parts:
        assert part in text, part
    first, second = outline.named("article")
    assert (first["id"], first["data-paper"], first["data-verdict"]) == ("LCA-X1", "lca", "reproduced")
    assert second["data-verdict"] == "known discrepancy|post hoc"
    assert [link["href"] for link in outline.named("a") if link.get("class") == "picture"] == [LINK] * 3, "the figure's and each claim's"
    assert "2 claims at scale full. 2 of them are required to hold there: 1 reproduced, 1 known discrepancy." in text


def test_an_undecided_discrepancy_is_counted_as_inconclusive() -> None:
    undecided = {"outcome": "inconclusive", "discrepancy": "Off by 7 %. Hypothesis: noise."}
    outline = Outline(page_of(figure(undecided)))
    (claim,) = outline.named("article")
    assert claim["data-verdict"] == "inconclusive|a discrepancy elsewhere"
    assert "required to hold there: 1 inconclusive." in " ".join(outline.words.split())


def test_the_page_fits_a_phone() -> None:
    """The width of the device, columns no wider than the screen, and a table that scrolls in its own box."""
    text = page_of(figure({}))
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in Outline(text).named("meta")
    assert "minmax(min(100%, 24rem), 1fr)" in text
    assert re.search(r"\.scroll \{ overflow-x: auto; \}", text)
    assert '<div class="scroll"><table>' in text
    assert all(svg.get("viewbox") and "width" not in svg for svg in Outline(text).named("svg")), "drawings shrink with the column"


def test_text_of_any_kind_stays_text() -> None:
    texts = {key: HOSTILE for key, value in ENTRY.items() if isinstance(value, str) and key not in ("outcome", "id")}
    plain = Outline(page_of(figure({})))
    hostile = Outline(page_of(figure(texts | {"estimates": {HOSTILE: 1.0}}, title=HOSTILE, reproduces=HOSTILE)))
    active = ("script", "style", "b")
    assert [tag for tag, _ in hostile.elements if tag in active] == [tag for tag, _ in plain.elements if tag in active]
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert hostile.words.count("alert('x')") >= 8


def test_nothing_is_fetched() -> None:
    text = page_of(figure({}))
    assert re.findall(r"https?:|//\w|@import|url\(", text) == []
    outline = Outline(text)
    assert not any(name == "src" for _, attributes in outline.elements for name in attributes)
    assert {tag for tag, _ in outline.elements} & {"link", "img", "iframe", "object", "base"} == set()


def test_links_and_filters_name_what_is_there() -> None:
    outline = Outline(page_of(figure({}), figure({"id": "B-1", "outcome": "error"}, paper="svcca", figure="b")))
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in outline.named("a") if (link["href"] or "").startswith("#")} <= set(ids)  # type: ignore[index]
    assert [option["value"] for option in outline.named("option") if option.get("value")] == ["reproduced", "error"]
    chosen = {select["id"] for select in outline.named("select")}
    assert chosen == {"by-paper", "by-verdict", "by-scale"}
    assert all({"data-paper", "data-verdict", "data-scale"} <= claim.keys() for claim in outline.named("article"))
    assert "svcca" in outline.words


def test_a_page_of_nothing_says_so() -> None:
    for figures in ([], [figure()]):
        outline = Outline(page_of(*figures))
        assert "There is no claim here" in outline.words
        assert outline.named("article") == []


def test_marks_lie_where_the_numbers_are() -> None:
    drawn = plot(verdict())
    assert drawn is not None
    axis = {label: share for share, label in drawn.ticks}
    unit = axis["-1"] - axis["-2"]
    assert drawn.seeds[0][0] == pytest.approx(axis["-1"] - 0.25 * unit)
    assert drawn.mean == pytest.approx(axis["-1"] - 0.4 * unit)
    assert drawn.interval == pytest.approx((axis["-2"], axis["-1"]))
    assert drawn.region == pytest.approx((0, axis["0"]))
    assert drawn.control == pytest.approx(axis["0"] + 0.5 * unit)
    assert drawn.published == pytest.approx(axis["-1"] - 0.75 * unit)
    assert len(drawn.seeds) == 2  # the third is not finite


def test_a_control_or_published_value_far_away_is_pointed_at() -> None:
    near, far = plot(verdict()), plot(verdict(control_mean=-1e6, published_number=1e6))
    assert near is not None
    assert far is not None
    assert (far.control, far.control_beyond, near.control_beyond) == (0, "left", "")
    assert (far.published, far.published_beyond, near.published_beyond) == (1, "right", "")


def test_the_published_value_is_drawn_beside_the_measured_one_where_it_is_a_number() -> None:
    (drawn,) = [text for text in Outline(page_of(figure({}))).named("text") if text.get("class") == "published"]
    assert drawn["y"] == "14"
    assert "\u25c6" in page_of(figure({}))
    assert not [text for text in Outline(page_of(figure({"published_number": None}))).named("text") if text.get("class") == "published"]


def test_one_seed_no_region_and_equal_values_can_be_drawn() -> None:
    lone = {"estimates": {"0": 3.0}, "mean": 3.0, "low": None, "high": None, "region": "", "high_edge": None, "control_mean": None}
    lone |= {"published_number": None}
    drawn = plot(verdict(**lone))
    assert drawn is not None
    assert (drawn.interval, drawn.region, drawn.control) == (None, None, None)
    assert drawn.seeds[0][0] == pytest.approx(0.5)
    assert plot(verdict(**lone | {"estimates": {"0": 0.0}, "mean": 0.0})) is not None
    assert plot(verdict(**lone | {"estimates": {"0": None}})) is None
    assert "one seed" in page_of(figure(lone))


@pytest.mark.parametrize(("left", "right"), [(0, 1), (-1e-16, 3e-16), (97, 103), (-1e6, 5), (0.019, 0.021)])
def test_ticks_are_few_round_and_inside(left: float, right: float) -> None:
    found = ticks(left, right)
    assert 2 <= len(found) <= 5
    assert all(left <= tick <= right for tick in found)
    assert len({f"{tick:.4g}" for tick in found}) == len(found)


def test_a_verdict_file_of_an_earlier_version_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "a.verdicts.json"
    file.write_text(json.dumps({"scale": "full", "verdicts": [ENTRY]}))
    with pytest.raises(ReplicationError, match=r"a\.verdicts\.json has no title; .* again"):
        claims_page.write([file], tmp_path / "claims.html")
    assert not (tmp_path / "claims.html").exists()


def test_the_page_links_to_pictures_beside_the_verdict_files(tmp_path: Path) -> None:
    file = tmp_path / "reduced/lca/figures/lca x.verdicts.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(PLACE | {"verdicts": [ENTRY]}))
    claims_page.write([file], tmp_path / "auto/claims.html")
    assert 'href="../reduced/lca/figures/lca%20x.png"' in (tmp_path / "auto/claims.html").read_text(encoding="utf-8")
