"""The table of all pairs of layers, and the example of the docs."""

import functools
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from svcca_layers import layers
from torch import Tensor

from replication import svcca
from replication.errors import ReplicationError


@pytest.mark.parametrize("measure", ["cca", "svcca", "pwcca", "linear_cka", "rbf_cka", "procrustes"])
def test_similarity_matrix_holds_what_the_pairs_give(measure: Any) -> None:
    a = {"one": layers(300, 12, 9)[0], "two": layers(300, 12, 9)[1].float(), "three": layers(300, 5, 9, seed=1)[0]}
    for b in (None, {"else": layers(300, 12, 7)[1], "one": a["one"]}):
        table = svcca.similarity_matrix(a, b, measure=measure)
        assert list(table.layer_a.unique()) == list(a)
        assert len(table) == 3 * len(b or a)
        for row in table.itertuples():
            single = getattr(svcca, measure)(a[row.layer_a], (b or a)[row.layer_b])
            assert row.similarity == pytest.approx(getattr(single, "similarity", single), abs=1e-10)
            if measure in ("cca", "svcca"):
                assert (row.dimensions_a, row.dimensions_b, row.noise_floor) == (single.rank_x, single.rank_y, single.noise_floor)


@pytest.mark.parametrize("measure", ["svcca", "linear_cka"])
def test_every_layer_is_read_once_and_need_not_be_kept(measure: Any) -> None:
    """A mapping may compute its tensors when asked; memory that Python reuses must not be taken for the same layer."""
    read: list[str] = []

    class Computed(Mapping[str, Tensor]):
        def __getitem__(self, name: str) -> Tensor:
            read.append(name)
            return torch.randn(50, 4, generator=torch.Generator().manual_seed(int(name)))

        def __iter__(self) -> Iterator[str]:
            return iter("123")

        def __len__(self) -> int:
            return 3

    table = svcca.similarity_matrix(Computed(), measure=measure)
    assert read == ["1", "2", "3"]
    pd.testing.assert_frame_equal(table, svcca.similarity_matrix(dict(Computed()), measure=measure))
    assert (table[table.layer_a != table.layer_b].similarity < 0.5).all()


def test_similarity_matrix_of_a_constant_layer() -> None:
    with pytest.warns(UserWarning, match="layer 'dead' is constant"):
        table = svcca.similarity_matrix({"dead": torch.ones(200, 3), "live": layers()[0]})
    assert table.similarity.tolist() == pytest.approx([0, 0, 0, 1])


def test_the_example_in_the_docs_runs_on_torchvision_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # it saves a picture
    page = (ROOT / "docs" / "svcca.md").read_text()
    script = tmp_path / "example.py"
    script.write_text(page.split("```python\n")[1].split("```")[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = runpy.run_path(str(script))["table"]
    assert len(table) == 36
    assert table.similarity.between(0, 1).all()
    assert "layer_b" in capsys.readouterr().out


MISTAKES = {
    "measure": (lambda: svcca.similarity_matrix({"a": layers()[0]}, measure="other"), "measure is 'other'"),
    "no layers": (lambda: svcca.similarity_matrix({}), "no layers"),
    "no second layers": (lambda: svcca.similarity_matrix({"a": layers()[0]}, {}), "no layers"),
    "a layer": (lambda: svcca.similarity_matrix({"a": layers()[0], "b": layers()[0] / 0}), "layer 'b' has 1200 non-finite"),
    "unequal": (lambda: svcca.similarity_matrix({"a": layers()[0], "b": layers(30)[0]}), "same examples"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()


@pytest.mark.parametrize("measure", ["linear_cka", "debiased_cka", "rbf_cka"])
@pytest.mark.parametrize("n", [20, 100, 300])
def test_tables_of_layers_of_many_shapes(measure: Any, n: int) -> None:
    """Kernels as matrices and as features in one table."""
    shapes = {"wide": 400, "middle": 90, "tall": 3, "flat": 1}
    sides = {name: torch.randn(n, p, generator=torch.Generator().manual_seed(p)) for name, p in shapes.items()}
    table = svcca.similarity_matrix(sides, measure=measure)
    single = svcca.rbf_cka if measure == "rbf_cka" else functools.partial(svcca.linear_cka, debiased=measure == "debiased_cka")
    for row in table.itertuples():
        assert row.similarity == pytest.approx(single(sides[row.layer_a], sides[row.layer_b]), abs=1e-10)
        if measure != "rbf_cka":
            variances = np.linalg.svd(sides[row.layer_a] - sides[row.layer_a].mean(0), compute_uv=False) ** 2
            assert row.dimensions_a == pytest.approx(variances.sum() ** 2 / np.square(variances).sum(), rel=1e-5)
    assert (table.noise_floor == 0).all() if measure == "debiased_cka" else (table.noise_floor > 0).all()
