"""The committed configurations load at every scale, and every mistake is one sentence with file, key, found and allowed."""

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from replication import models
from replication.errors import ReplicationError
from replication.pipeline import configs
from replication.pipeline.configs import at_scale
from replication.schema.base import SCALES

RAW = yaml.safe_load((ROOT / "paper_configs/lca.yaml").read_text())
RUN, FIGURE = ("runs", "mnist_fc"), ("figures", "lca_layers")
CLAIM = (*FIGURE, "claims", 0)
FREE = {"rule": "below", "bound": 0, "basis": "analytic"}
PLAIN_CLAIM = {
    "id": "LCA-X1",
    "statement": "It falls.",
    "kind": "value",
    "published": {"value": "negative", "where": "Figure 5", "trust": "secondary"},
    "quantity": "total",
    "control": {"quantity": "total_shuffled", "breaks": "gradients shuffled"},
    "expect": {"full": FREE | {"basis": "published"}, "reduced": FREE | {"basis": "published"}},
}
Edit = Callable[[Any], object]


def fails(*words: str) -> contextlib.AbstractContextManager[object]:
    """One sentence that holds the words in order."""
    return pytest.raises(ReplicationError, match=r"(?s)\A[^\n]*" + "[^\n]*".join(map(re.escape, words)) + r"[^\n]*\.\Z")


def at(raw: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        raw = raw[part]
    return raw


def put(*path: str | int, to: Any) -> Edit:
    return lambda raw: at(raw, path[:-1]).__setitem__(path[-1], to)


def drop(*path: str | int) -> Edit:
    return lambda raw: at(raw, path[:-1]).pop(path[-1])


def write(folder: Path, *edits: Edit) -> Path:
    raw = copy.deepcopy(RAW)
    at(raw, CLAIM[:-1])[0] = copy.deepcopy(PLAIN_CLAIM)
    for edit in edits:
        edit(raw)
    (folder / "lca.yaml").write_text(yaml.safe_dump(raw))
    return folder


# The committed files


def test_a_key_beside_a_merge_overrides_it_and_no_key_is_given_twice(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n")
    assert configs.read(tmp_path / "a.yaml")["b"] == {"x": 1, "y": 3}
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 3, y: 4}\n")
    with fails("the key 'y' is given twice"):
        configs.read(tmp_path / "a.yaml")


def test_the_committed_files_load_at_every_scale_and_as_recorded() -> None:
    papers = {scale: configs.load(scale, ROOT / "paper_configs") for scale in (*SCALES, configs.RECORDED)}
    assert all(list(each) == list(papers["full"]) for each in papers.values())
    assert papers[configs.RECORDED] == papers["full"]
    runs = {scale: papers[scale]["lca"].runs["mnist_fc"] for scale in SCALES}
    for scale, run in runs.items():
        written = at_scale(RAW["runs"]["mnist_fc"], scale)
        assert (run.dataset.name, run.steps, run.seeds) == (written["dataset"]["name"], written["steps"], written["seeds"])
        spans = at_scale(RAW["measurements"]["mnist_fc_lca"], scale)["spans"]
        assert papers[scale]["lca"].measurements["mnist_fc_lca"].parts == spans
    assert len({configs.identity(run) for run in runs.values()}) == 3


def test_smoke_speaks_for_no_claim() -> None:
    assert all(claim.expect is None for _, _, claim in configs.claims_of(configs.load("smoke", ROOT / "paper_configs")))


def test_claims_are_listed_in_the_order_of_the_file() -> None:
    listed = [claim["id"] for figure in RAW["figures"].values() for claim in figure["claims"]]
    papers = {"lca": configs.load("full", ROOT / "paper_configs")["lca"]}
    assert [claim.id for _, _, claim in configs.claims_of(papers)] == listed


def test_an_edited_copy_loads(tmp_path: Path) -> None:
    assert configs.load("full", write(tmp_path))["lca"].runs == configs.load("full", ROOT / "paper_configs")["lca"].runs
    loaded = configs.load("reduced", write(tmp_path, put(*RUN, "steps", "reduced", to=7)))
    assert loaded["lca"].runs["mnist_fc"].steps == 7


# at_scale

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
PLAIN = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3))
BY_SCALE = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.dictionaries(st.sampled_from(SCALES), inner, min_size=1, max_size=3)
    ),
)
SCALE = st.sampled_from(SCALES)


@given(value=PLAIN, scale=SCALE)
def test_a_value_without_scales_is_the_same_at_every_scale(value: Any, scale: str) -> None:
    assert at_scale(value, scale) == value


@given(values=st.fixed_dictionaries(dict.fromkeys(SCALES, PLAIN)), scale=SCALE)
def test_a_mapping_by_scale_gives_its_entry_at_any_depth(values: Any, scale: str) -> None:
    assert at_scale(values, scale) == values[scale]
    assert at_scale({"key": [values, 1]}, scale) == {"key": [values[scale], 1]}


@given(value=BY_SCALE, scale=SCALE, other=SCALE)
def test_a_resolved_value_has_no_scales_left(value: Any, scale: str, other: str) -> None:
    resolved = at_scale({"key": value}, scale)
    assert at_scale(resolved, other) == resolved


def test_an_entry_without_this_scale_disappears() -> None:
    assert at_scale({"a": {"full": 1}, "b": 2}, "smoke") == {"b": 2}
    assert at_scale([{"full": 1}, {"smoke": 2}, 3], "smoke") == [2, 3]
    assert at_scale({"a": {"b": {"full": {"reduced": 1}}}}, "full") == {"a": {}}


def test_a_mapping_with_other_keys_is_no_mapping_by_scale() -> None:
    assert at_scale({"full": 1, "x": 2}, "smoke") == {"full": 1, "x": 2}
    assert at_scale({}, "smoke") == {}


# Mistakes

EXPECT = (*CLAIM, "expect", "full")
MISTAKES: dict[str, tuple[Edit, list[str]]] = {
    "unknown key": (
        put(*RUN, "batchsize", to=3),
        ["runs.mnist_fc", "unknown key 'batchsize'", "did you mean 'batch_size'?", "allowed: dataset, model, model_settings, optimizer"],
    ),
    "far unknown key": (put(*RUN, "zzz", to=3), ["runs.mnist_fc has the unknown key 'zzz'; allowed: dataset, model"]),
    "unknown key of an optimizer": (put(*RUN, "optimizer", "learning_rate", to=1), ["optimizer", "'learning_rate'", "allowed: name, lr"]),
    "number as a key": (put(*RUN, 1, to=3), ["runs.mnist_fc has the unknown key '1'"]),
    "text for a whole number": (put(*RUN, "steps", to="many"), ["runs.mnist_fc.steps is 'many'", "valid integer"]),
    "fraction for a whole number": (put(*RUN, "steps", to=880.0), ["runs.mnist_fc.steps is 880.0", "valid integer"]),
    "truth for a whole number": (put(*RUN, "steps", to=True), ["runs.mnist_fc.steps is True", "valid integer"]),
    "text for a number": (put(*RUN, "optimizer", "lr", to="0.05"), ["runs.mnist_fc.optimizer.lr is '0.05'", "valid number"]),
    "infinite number": (put(*RUN, "optimizer", "lr", to=float("inf")), ["runs.mnist_fc.optimizer.lr is inf", "finite number"]),
    "list for a mapping": (put("runs", to=[1, 2]), ["runs is [1, 2]", "mapping"]),
    "text for a mapping": (put("paper", to="LCA"), ["paper is 'LCA'", "mapping with the keys title, authors, year, arxiv"]),
    "nothing for a list": (put(*FIGURE, "claims", to=None), ["figures.lca_layers.claims is None", "valid list"]),
    "a long value": (put(*RUN, "steps", to=list(range(1000))), ["runs.mnist_fc.steps is [0, 1, 2, 3, 4, 5, ...]", "valid integer"]),
    "unknown model": (
        put(*RUN, "model", to="mnist_cf"),
        ["runs.mnist_fc", "unknown model 'mnist_cf' (did you mean 'mnist_fc'?); allowed:", *models.names()],
    ),
    "unknown data set": (put(*RUN, "dataset", "name", to="mnits"), ["runs.mnist_fc.dataset.name is 'mnits'", "'mnist'", "'digits'"]),
    "negative steps": (put(*RUN, "steps", to=-3), ["runs.mnist_fc.steps is -3", "greater than or equal to 1"]),
    "no seeds": (put(*RUN, "seeds", "reduced", to=0), ["scale reduced: runs.mnist_fc.seeds is 0", "greater than or equal to 1"]),
    "noise above 1": (put(*RUN, "dataset", "label_noise", to=1.5), ["label_noise is 1.5", "less than or equal to 1"]),
    "missing scale": (drop(*RUN, "steps", "reduced"), ["scale reduced: runs.mnist_fc.steps is missing", "no value for scale reduced"]),
    "misspelt scale": (
        put(*RUN, "steps", to={"full": 3, "reducd": 3, "smoke": 3}),
        ["runs.mnist_fc.steps mixes scales with the key 'reducd'", "smoke, reduced, full"],
    ),
    "misspelt scale of an expectation": (
        put(*CLAIM, "expect", "reducd", to=FREE),
        ["claims.0.expect mixes scales with the key 'reducd'", "smoke, reduced, full"],
    ),
    "missing section": (drop("figures"), ["figures is missing"]),
    "everything by scale": (
        lambda raw: raw.update({"full": raw.copy()}) or [raw.pop(key) for key in RAW],
        ["paper is missing", "no value for scale smoke"],
    ),
    "momentum of adam": (put(*RUN, "optimizer", "name", to="adam"), ["runs.mnist_fc.optimizer", "momentum", "adam", "name: sgd"]),
    "nesterov without momentum": (
        put(*RUN, "optimizer", to={"name": "sgd", "lr": 0.1, "nesterov": True}),
        ["runs.mnist_fc.optimizer sets nesterov without momentum", "above 0"],
    ),
    "schedule before the first step": (put(*RUN, "schedule", to={-1: 0.1}), ["runs.mnist_fc.schedule has the key -1", "equal to 0"]),
    "claim without basis": (drop(*EXPECT, "basis"), ["scale full: figures.lca_layers.claims.0.expect.basis is missing"]),
    "unknown basis": (put(*EXPECT, "basis", to="guess"), ["expect.basis is 'guess'", "'published'", "'rounding'", "'judgement'"]),
    "judgement without note": (put(*EXPECT, "basis", to="judgement"), ["expect has basis judgement without a note", "one sentence"]),
    "pilot without note": (put(*EXPECT, "basis", to="pilot"), ["expect has basis pilot without a note"]),
    "recalled value as basis": (put(*CLAIM, "published", "trust", to="recalled"), ["claims.0 bases", "recalled value", "another basis"]),
    "unknown trust": (put(*CLAIM, "published", "trust", to="sure"), ["published.trust is 'sure'", "'confirmed'", "'none'"]),
    "between without limits": (put(*EXPECT, "rule", to="between"), ["expect has rule between, which needs low < high and no bound"]),
    "between with low above high": (put(*EXPECT, to=FREE | {"rule": "between", "low": 2, "high": 1, "bound": None}), ["low < high"]),
    "below with limits": (put(*EXPECT, to=FREE | {"low": 1}), ["expect has rule below, which needs bound and neither low nor high"]),
    "expectation at smoke": (
        put(*CLAIM, "expect", "smoke", to=FREE),
        ["scale smoke", "claims.0", "says nothing about claims", "reduced or full"],
    ),
    "no expectation": (drop(*CLAIM, "expect"), ["claims.0 has no expectation at this scale", "expect", "not_evaluated"]),
    "no control": (drop(*CLAIM, "control"), ["figures.lca_layers.claims.0.control is missing"]),
    "bad claim id": (put(*CLAIM, "id", to="lca c8"), ["claims.0.id is 'lca c8'", "pattern"]),
    "bad quantity": (put(*CLAIM, "quantity", to="Layer total"), ["claims.0.quantity is 'Layer total'", "pattern"]),
    "figure of an unknown measurement": (
        put(*FIGURE, "measurements", to=["mnist_lca"]),
        ["figure lca_layers of the unknown measurement 'mnist_lca'; allowed:", "lenet_lca"],
    ),
    "figure of nothing": (put(*FIGURE, "measurements", to=[]), ["figures.lca_layers names no measurements and no runs; name at least one"]),
    "figure of an unknown run": (put(*FIGURE, "runs", to=["mnist"]), ["figure lca_layers of the unknown run 'mnist'; allowed:", "lenet"]),
    "run and measurement of one name": (
        lambda raw: raw["measurements"].update(mnist_fc=raw["measurements"]["mnist_fc_lca"]),
        ["a run and a measurement of the same name mnist_fc; rename one"],
    ),
    "measurement of an unknown run": (
        put("measurements", "lenet_lca", "run", to="lenot"),
        ["measurement lenet_lca of the unknown run 'lenot'; allowed:", "mnist_fc"],
    ),
    "measurement of a run without weights": (drop(*RUN, "keep"), ["measurement mnist_fc_", "needs run mnist_fc to say keep: every_step"]),
    "unknown instrument": (
        put("measurements", "lenet_lca", "instrument", to="lcaa"),
        ["measurements.lenet_lca.instrument is 'lcaa' (did you mean 'lca'?); allowed: ", "lca, lca_frames"],
    ),
    "intervals that are no power of two": (put("measurements", "lenet_lca", "max_intervals", to=3), ["max_intervals is 3", "16, 32 or 64"]),
    "misspelt keep": (put(*RUN, "keep", to="evry_step"), ["runs.mnist_fc.keep is 'evry_step'", "'every_step' or 'every_epoch' or", "list"]),
    "weights after the end": (put(*RUN, "keep", to=[9999]), ["runs.mnist_fc keeps the weights of step 9999, after the last step"]),
    "several": (lambda raw: (put(*RUN, "steps", to=0)(raw), put(*RUN, "seeds", to=0)(raw)), ["steps is 0", "1 more after this one"]),
    **{
        f"figure named {name!r}": (
            lambda raw, name=name: raw["figures"].update({name: raw["figures"].pop("lca_layers")}),
            [f"figures has the key {name!r}", "pattern '^[a-z][a-z0-9_]*$'"],
        )
        for name in ("../x", "a b", "x;rm", "", "Layers", "x\n", "x]")
    },
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_at_any_scale_is_one_sentence_whichever_is_asked_for(tmp_path: Path, mistake: str) -> None:
    edit, words = MISTAKES[mistake]
    with fails(f"{tmp_path / 'lca.yaml'}, ", *words) as raised:
        configs.load("reduced", write(tmp_path, edit))
    assert len(str(raised.value)) < 700  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("runs:\n  a: 1\n  a: 2\n", ["not valid YAML", "the key 'a' is given twice", "line 3", "fix it and run again"]),
        ("a: [1\nb: 2", ["not valid YAML", "line 2", "fix it and run again"]),
        ("", ["holds NoneType", "a mapping with paper, runs, measurements, figures"]),
        ("- 1\n", ["holds list", "a mapping with paper, runs, measurements, figures"]),
        ("year: 2020-13-45", ["not valid YAML", "month"]),
        ("a: !!int x", ["not valid YAML", "'x'"]),
        ("a: &x [*x]", ["not valid YAML", "contains itself"]),
        ("[" * 200_000, ["not valid YAML", "nested more than 100 levels deep"]),
        ("? [a]\n: 1", ["not valid YAML", "unhashable"]),
        ("a: \0", ["not valid YAML", "control characters are not allowed"]),
        (b"a: \xff\xfe", ["not valid YAML", "utf-8"]),
        ("a: !!python/object/apply:os.system [ls]", ["not valid YAML", "python/object"]),
    ],
    ids=["double key", "broken", "empty", "list", "date", "number", "circle", "deep", "list as key", "null byte", "binary", "code"],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    (tmp_path / "lca.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    with fails(str(tmp_path / "lca.yaml"), *words):
        configs.load("full", tmp_path)


def test_a_missing_file_folder_or_scale_is_one_sentence(tmp_path: Path) -> None:
    with fails("no YAML file in", "nowhere/", "Snakefile"):
        configs.load("full", tmp_path / "nowhere")
    with fails("lca.yaml does not exist", "Snakefile"):
        configs.read(tmp_path / "lca.yaml")
    (tmp_path / "x.yaml").mkdir()
    with fails("x.yaml cannot be read", "directory"):
        configs.load("full", tmp_path)
    with fails("The scale is 'ful'; allowed:", "smoke, reduced, full, recorded"):
        configs.load("ful", ROOT / "paper_configs")


def test_a_claim_id_or_figure_given_twice_names_both_places(tmp_path: Path) -> None:
    write(tmp_path, lambda raw: raw["figures"]["lca_histogram"]["claims"].append(copy.deepcopy(at(raw, CLAIM))))
    with fails("claim LCA-X1 is given in lca.", "and again in lca.", "rename one"):
        configs.load("full", tmp_path)
    write(tmp_path)
    (tmp_path / "other.yaml").write_bytes((tmp_path / "lca.yaml").read_bytes())
    with fails(f"figure {min(RAW['figures'])} is given in lca.", "and again in other."):
        configs.load("full", tmp_path)


# Whatever is written into a file: it loads or it is a sentence


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(entry, (*path, key))


PLACES = [path for path in leaves(RAW) if path]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["lenet", "every_step", "below", 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SCALES, "name", "x"]), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200)
@given(mutations=st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=3), scale=SCALE)
def test_any_value_anywhere_loads_or_is_a_sentence(mutations: list[tuple[tuple[str | int, ...], Any]], scale: str) -> None:
    raw = copy.deepcopy(RAW)
    for path, value in mutations:
        with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError):  # an earlier mutation took the place away
            put(*path, to=copy.deepcopy(value))(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "read", lambda path: raw)
        try:
            said = configs.identity(configs.load(scale, ROOT / "paper_configs")["lca"])
        except ReplicationError as error:
            said = str(error)
        assert re.fullmatch(r"\{.*\}|[^\n]+\.", said)


TEXT = (ROOT / "paper_configs/lca.yaml").read_text()


@given(start=st.integers(0, len(TEXT)), length=st.integers(0, 40), inserted=st.text("{}[]:,-'\"&*!|>#%@ \nabc01", max_size=5))
def test_any_edit_of_the_text_loads_or_is_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int, inserted: str
) -> None:
    folder = tmp_path_factory.mktemp("edited")
    (folder / "lca.yaml").write_text(TEXT[:start] + inserted + TEXT[start + length :])
    try:
        said = configs.identity(configs.load("smoke", folder)["lca"])
    except ReplicationError as error:
        said = str(error)
    assert re.fullmatch(r"\{.*\}|[^\n]+\.", said)
