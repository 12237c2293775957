from pathlib import Path

import figures_table
import pandas as pd
import pytest
from figures_table import BEGIN, END, MEASURED, README, THUMBNAILS
from PIL import Image
from verdict_entries import ENTRY, PLACE

from replication.claims.verdicts import COUNTED, kind_text
from replication.errors import ReplicationError
from replication.files.atomic import write_json
from replication.files.provenance import provenance_file, write_provenance
from replication.pipeline import configs, dag

README_TEXT = README.read_text(encoding="utf-8")


def test_the_readme_is_up_to_date() -> None:
    assert figures_table.written(README_TEXT) == README_TEXT, "run `python docs/figures_table.py`"


def test_every_figure_has_its_row_with_the_verdicts_measured() -> None:
    rows = {line.split("`")[1]: line for line in README_TEXT.splitlines() if line.startswith("| `figure_")}
    assert set(rows) == {f"figure_{name}" for _, name, _ in dag.figures()}
    measured = pd.read_csv(MEASURED)
    for row in measured.to_dict("records"):
        for outcome in COUNTED:
            if row[outcome] == 1:
                assert f"1 {kind_text(outcome)}" in rows[f"figure_{row['figure']}"]


def test_every_figure_has_its_small_picture_and_shows_it() -> None:
    pictures = {path.stem for path in THUMBNAILS.glob("*.png")}
    assert pictures == {name for _, name, _ in dag.figures()}
    assert all(f'thumbnails/{name}.png" width' in README_TEXT for name in pictures)


def test_counts_that_contradict_the_configuration_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = pd.read_csv(MEASURED).head(1)
    measured["reproduced"] += 1
    measured.to_csv(tmp_path / "measured.csv", index=False)
    monkeypatch.setattr(figures_table, "MEASURED", tmp_path / "measured.csv")
    with pytest.raises(ReplicationError, match=r"paper_configs has claims: \d+; run"):
        figures_table.read()


def test_a_readme_without_markers_and_an_unknown_scale_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReplicationError, match="has no place for the table"):
        figures_table.written("text")
    with pytest.raises(ReplicationError, match="The scale is 'smoke'; allowed"):
        figures_table.collect("smoke", tmp_path)
    with pytest.raises(ReplicationError, match="run `snakemake figures --config scale=full` first"):
        figures_table.collect("full", tmp_path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One finished figure at reduced scale, its jobs timed at half a minute each."""
    paper, figure, entry = next(each for each in dag.figures() if each[2].claims and each[2].measurements)
    folder = tmp_path / "reduced" / paper / "figures"
    verdicts = [
        ENTRY | ({"outcome": "not_reproduced", "discrepancy": "known"} if place == 0 else {"outcome": "inconclusive"})
        for place in range(len(entry.claims))
    ]
    write_json(folder / f"{figure}.verdicts.json", PLACE | {"verdicts": verdicts})
    write_provenance(provenance_file(folder / figure), {"created": "2026-01-02T03:04:05+00:00"}, [])
    Image.effect_noise((900, 500), 50).save(folder / f"{figure}.png")
    config = configs.load("reduced")[paper]
    for name in entry.measurements:
        measurement = config.measurements[name]
        for seed in range(measurement.n_seeds(config.runs)):
            jobs = [f"measure/{name}.{seed}.{part}" for part in range(measurement.parts)]
            for job in [*jobs, *(f"train/{run}.{source}" for run, source in measurement.sources(seed))]:
                file = tmp_path / "benchmarks/reduced" / paper / f"{job}.tsv"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("s\th:m:s\tcpu_time\n31\t0:00:31\t30\n")
    return tmp_path


def test_finished_results_are_collected(results: Path) -> None:
    (row,) = figures_table.collect("reduced", results).to_dict("records")
    n_jobs = len(list(results.glob("benchmarks/**/*.tsv")))
    assert row["date"] == "2026-01-02"
    assert row["core_minutes"] == pytest.approx(n_jobs / 2)
    assert row["known discrepancy"] == 1
    assert sum(row[outcome] for outcome in COUNTED) == row["known discrepancy"] + row["inconclusive"]
    next(results.glob("benchmarks/**/*.tsv")).unlink()
    assert pd.isna(figures_table.collect("reduced", results)["core_minutes"].iloc[0]), "a job that was not timed"


def test_an_update_replaces_older_rows_of_the_same_figures(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_table, "THUMBNAILS", tmp_path / "thumbnails")
    for name, content in (("README", f"a\n{BEGIN}\nstale table\n{END}\nb\n"), ("MEASURED", MEASURED.read_text())):
        (tmp_path / name).write_text(content)
        monkeypatch.setattr(figures_table, name, tmp_path / name)
    before = figures_table.read()
    figures_table.update("reduced", results)
    after = figures_table.read()
    new = figures_table.collect("reduced", results)["figure"].item()
    with Image.open(thumbnail := figures_table.thumbnail_of(new)) as image:
        assert image.size == (240, 133)
    assert thumbnail.stat().st_size < 50_000
    assert after.loc[(new, "reduced"), "date"] == "2026-01-02"
    pd.testing.assert_frame_equal(after.drop(index=(new, "reduced")), before.drop(index=(new, "reduced"), errors="ignore"), check_like=True)
    text = (tmp_path / "README").read_text()
    assert text.startswith(f"a\n{BEGIN}\n| ")
    assert "stale table" not in text
    assert f'<img src="{thumbnail.as_posix()}"' in text
    assert text.endswith(f"{END}\nb\n")
