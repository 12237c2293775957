"""The gallery, the README's table of papers and the manifest are written from paper_configs and finished results."""

import runpy
from pathlib import Path

import gallery
import measured
import pandas as pd
import pytest
import yaml
from gallery import BEGIN, END
from measured import MEASURED
from PIL import Image
from verdict_entries import ENTRY, PLACE

from replication.claims.verdicts import COUNTED, kind_text
from replication.errors import ReplicationError
from replication.files.atomic import write_json
from replication.files.provenance import provenance_file, write_provenance
from replication.pipeline import configs, dag

FIGURES = [name for _, name, _ in dag.figures()]


@pytest.mark.parametrize("path", gallery.files(), ids=str)
def test_written_files_are_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == gallery.files()[path], "run `python docs/gallery.py`"


@pytest.mark.parametrize("name", ["hero", "own_network"])
def test_no_other_picture_is_older_than_its_code(name: str) -> None:
    """Run `make pictures`."""
    script = Path("docs/images") / f"{name}.py"
    with Image.open(script.with_suffix(".png")) as picture:
        assert picture.info["code"] == runpy.run_path(str(script))["identity"]()


def test_every_figure_has_its_card_with_the_verdicts_measured() -> None:
    cards = {card.split("`figure_")[1].split("`")[0]: card for card in gallery.PAGE.read_text(encoding="utf-8").split("\n- ")[1:]}
    assert set(cards) == set(FIGURES)
    for row in pd.read_csv(MEASURED).to_dict("records"):
        for outcome in COUNTED:
            if row[outcome] == 1:
                assert f"1 {kind_text(outcome)}" in cards[row["figure"]]


def test_pictures_are_small_and_shown() -> None:
    pictures = {path.stem: path for path in gallery.PICTURES.glob("*.webp")}
    assert set(pictures) == set(gallery.read_index().index) <= set(FIGURES)
    text = gallery.PAGE.read_text(encoding="utf-8")
    assert all(f"(images/figures/{name}.webp)" in text for name in pictures)
    committed = [path for path in Path("docs").rglob("*") if path.suffix in (".webp", ".png")]
    assert sum(path.stat().st_size for path in committed) < 4_000_000


def test_the_table_of_papers_counts_every_verdict() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in gallery.papers_table().splitlines()[2:]]
    counts = pd.read_csv(MEASURED).query("paper != 'four_views'")  # which is no paper
    assert sum(int(row[2]) for row in rows) == len(counts)
    shown = [kind for kind in COUNTED if kind not in ("withdrawn", "error")]
    assert [sum(column) for column in zip(*([int(cell) for cell in row[3:]] for row in rows), strict=True)] == counts[shown].sum().tolist()


def test_the_readme_is_short() -> None:
    lines = gallery.README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 160


def test_the_manifest_names_every_figure() -> None:
    manifest = yaml.safe_load(gallery.CODECHECK.read_text(encoding="utf-8"))["manifest"]
    assert [Path(entry["file"]).stem for entry in manifest] == FIGURES


def test_counts_that_contradict_the_configuration_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = pd.read_csv(MEASURED).head(1)
    counts["reproduced"] += 1
    counts.to_csv(tmp_path / "measured.csv", index=False)
    monkeypatch.setattr(measured, "MEASURED", tmp_path / "measured.csv")
    with pytest.raises(ReplicationError, match=r"paper_configs has claims: \d+; run"):
        measured.read()


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReplicationError, match="has no place for the table"):
        gallery.readme("text")
    with pytest.raises(ReplicationError, match="The scale is 'smoke'; allowed"):
        measured.collect("smoke", tmp_path)
    with pytest.raises(ReplicationError, match="run `snakemake figures` first"):
        gallery.update(tmp_path)
    with pytest.raises(SystemExit, match="The arguments are 'draw'; allowed: none, or update"):
        gallery.main(["draw"])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One finished figure at reduced scale, its jobs timed at half a minute each."""
    paper, figure, entry = next(each for each in dag.figures() if each[2].claims and each[2].measurements)
    folder = tmp_path / "results" / "reduced" / paper / "figures"
    verdicts = [
        ENTRY | ({"outcome": "not_reproduced", "discrepancy": "known"} if place == 0 else {"outcome": "inconclusive"})
        for place in range(len(entry.claims))
    ]
    write_json(folder / f"{figure}.verdicts.json", PLACE | {"verdicts": verdicts})
    write_provenance(provenance_file(folder / figure), {"created": "2026-01-02T03:04:05+00:00", "code": gallery.code_of(figure)}, [])
    Image.effect_noise((1800, 900), 50).save(folder / f"{figure}.png")
    config = configs.load("reduced")[paper]
    for name in entry.measurements:
        measurement = config.measurements[name]
        for seed in range(measurement.n_seeds(config.runs)):
            jobs = [f"measure/{name}.{seed}.{part}" for part in range(measurement.parts)]
            for job in [*jobs, *(f"train/{run}.{source}" for run, source in measurement.sources(seed))]:
                file = tmp_path / "results/benchmarks/reduced" / paper / f"{job}.tsv"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("s\th:m:s\tcpu_time\n31\t0:00:31\t30\n")
    return tmp_path / "results"


def test_finished_results_are_collected(results: Path) -> None:
    (row,) = measured.collect("reduced", results).to_dict("records")
    n_jobs = len(list(results.glob("benchmarks/**/*.tsv")))
    assert row["date"] == "2026-01-02"
    assert row["core_minutes"] == pytest.approx(n_jobs / 2)
    assert row["known discrepancy"] == 1
    assert sum(row[outcome] for outcome in COUNTED) == row["known discrepancy"] + row["inconclusive"]
    next(results.glob("benchmarks/**/*.tsv")).unlink()
    assert pd.isna(measured.collect("reduced", results)["core_minutes"].iloc[0]), "a job that was not timed"


def test_an_update_replaces_older_rows_and_pictures_of_the_same_figures(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "measured.csv").write_text(MEASURED.read_text())
    monkeypatch.setattr(measured, "MEASURED", tmp_path / "measured.csv")
    monkeypatch.setattr(gallery, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(gallery, "INDEX", tmp_path / "pictures.csv")
    new = measured.collect("reduced", results)["figure"].item()
    before = measured.read()
    gallery.write_index(pd.DataFrame({"scale": ["reduced"], "code": ["older"]}, index=[new]))
    assert f"`figure_{new}`" in gallery.page()
    assert gallery.page().count("by an earlier version of its code") == 1
    gallery.update(results)
    assert "by an earlier version of its code" not in gallery.page()
    with Image.open(gallery.picture_of(new)) as image:
        assert image.size == (gallery.WIDTH, gallery.WIDTH // 2)
    after = measured.read()
    assert after.loc[(new, "reduced"), "date"] == "2026-01-02"
    pd.testing.assert_frame_equal(after.drop(index=(new, "reduced")), before.drop(index=(new, "reduced"), errors="ignore"), check_like=True)
    text = gallery.readme(f"a\n{BEGIN}\nstale table\n{END}\nb\n")
    assert text.startswith(f"a\n{BEGIN}\n| ")
    assert "stale table" not in text
    assert text.endswith(f"{END}\nb\n")


def test_a_picture_of_a_smaller_scale_does_not_replace_a_larger_one(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "MEASURED", tmp_path / "measured.csv")
    monkeypatch.setattr(gallery, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(gallery, "INDEX", tmp_path / "pictures.csv")
    new = measured.collect("reduced", results)["figure"].item()
    gallery.write_index(pd.DataFrame({"scale": ["full"], "code": ["older"]}, index=[new]))
    gallery.update(results)
    assert gallery.read_index().loc[new].tolist() == ["full", "older"]
    assert not gallery.picture_of(new).exists()
