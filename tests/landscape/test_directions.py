import pytest
import torch
from golden import golden
from tiny_landscape import flat, tiny
from torch import nn

from replication.errors import ReplicationError
from replication.landscape.directions import axis_generator, kept_parameters, normalised, random_direction
from replication.objective import flat_parameters, layout_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ignore", ["biasbn", None])
@pytest.mark.parametrize("normalise", ["filter", "layer", "weight"])
def test_normalisations_equal_the_official_ones(normalise: str, ignore: str | None, dtype: torch.dtype) -> None:
    numbers, model = golden("landscape.json"), tiny()
    layout = layout_of(model)
    direction = normalised(flat(numbers["raw_seed123_full"]).to(dtype), flat_parameters(model).to(dtype), layout, normalise, ignore)
    assert direction.dtype == torch.float64
    for slot, expected in zip(layout, numbers["normalized"][f"{normalise}|{ignore or 'none'}"], strict=True):
        piece = direction[slot.slice]
        assert piece.norm().item() == pytest.approx(expected["norm"], rel=1e-6, abs=1e-9)
        assert piece.sum().item() == pytest.approx(expected["sum"], rel=1e-6, abs=1e-6)
        torch.testing.assert_close(piece[:6], torch.tensor(expected["first"], dtype=torch.float64)[: len(piece)], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("key", "draws", "ignore"), [("filter_biasbn_full", "raw_seed123_full", "biasbn"), ("filter_none_full", "raw_seed123_full", None)]
)
def test_every_entry_of_the_official_filter_directions(key: str, draws: str, ignore: str | None) -> None:
    numbers, model = golden("landscape.json"), tiny()
    direction = normalised(flat(numbers[draws]), flat_parameters(model), layout_of(model), "filter", ignore)
    torch.testing.assert_close(direction, flat(numbers[key]), rtol=1e-6, atol=1e-8)


def test_the_second_axis_and_the_cosine_of_both() -> None:
    numbers, model = golden("landscape.json"), tiny()
    x, y = (
        normalised(flat(numbers[key]), flat_parameters(model), layout_of(model)) for key in ("raw_seed123_full", "raw_seed123_second_full")
    )
    assert torch.nn.functional.cosine_similarity(x, y, dim=0).item() == pytest.approx(numbers["cos_dx_dy"], rel=1e-5)
    for slot, expected in zip(layout_of(model), numbers["dy_next"], strict=True):
        assert y[slot.slice].norm().item() == pytest.approx(expected["norm"], rel=1e-6, abs=1e-9)


def test_every_filter_has_the_norm_of_its_weights_and_a_zero_filter_none(generator: torch.Generator) -> None:
    model = tiny()
    direction, theta = random_direction(model, generator), flat_parameters(model)
    for slot in layout_of(model):
        d, w = direction[slot.slice].view(slot.shape), theta[slot.slice].view(slot.shape)
        if w.dim() > 1:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), w.flatten(1).norm(dim=1), rtol=1e-9, atol=1e-12)
        else:
            assert not d.any()
    kept = kept_parameters(layout_of(model), "biasbn")
    assert direction.norm().item() == pytest.approx(theta[kept].norm().item(), rel=1e-9)
    assert not direction[layout_of(model)[4].slice].view(6, 4, 3, 3)[3].any()


def test_unit_and_raw_directions(generator: torch.Generator) -> None:
    model = nn.Conv2d(2, 3, 3)
    draws = torch.randn(57, generator=generator)
    layout, theta = layout_of(model), flat_parameters(model)
    filters = normalised(draws, theta, layout, "dfilter")[:54].view(3, -1)
    torch.testing.assert_close(filters.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert normalised(draws, theta, layout, "dlayer").norm().item() == pytest.approx(1)
    raw = normalised(draws, theta, layout, None, None)
    assert torch.equal(raw[:54], draws[:54].double())
    assert torch.equal(raw[54:], theta[54:])


def test_a_direction_depends_on_its_seed_and_axis_alone() -> None:
    model = tiny()
    first = random_direction(model, axis_generator(3, 0))
    torch.randn(5)
    tiny()
    assert torch.equal(first, random_direction(model, axis_generator(3, 0)))
    others = [random_direction(model, axis_generator(seed, axis)) for seed, axis in ((3, 1), (4, 0))]
    assert all(abs(torch.nn.functional.cosine_similarity(first, other, dim=0)) < 0.2 for other in others)


def test_mean_cosine_of_random_directions_follows_the_formula() -> None:
    """E abs(cos) = sqrt(2 / (pi n)) (section 7.1 of the paper)."""
    model = nn.Linear(500, 10, bias=False)
    directions = torch.stack([random_direction(model, axis_generator(seed, 0), None) for seed in range(60)])
    unit = directions / directions.norm(dim=1, keepdim=True)
    cosines = (unit @ unit.T)[tuple(torch.triu_indices(60, 60, 1))].abs()
    assert cosines.mean().item() == pytest.approx((2 / (torch.pi * 5000)) ** 0.5, rel=0.06)


def test_wrong_arguments_give_one_sentence(generator: torch.Generator) -> None:
    with pytest.raises(ReplicationError, match="'filters'; allowed: 'filter'"):
        random_direction(tiny(), generator, "filters")  # type: ignore[arg-type]
    with pytest.raises(ReplicationError, match="ignore is 'bn'"):
        random_direction(tiny(), generator, ignore="bn")  # type: ignore[arg-type]
    with pytest.raises(ReplicationError, match="vectors of 383"):
        normalised(torch.zeros(3), flat_parameters(tiny()), layout_of(tiny()))
