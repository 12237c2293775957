import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replication.data.sources import import_torchvision
from replication.training.augmentation import crop_and_flip


def draw(images: torch.Tensor, seed: int = 0, **options: object) -> torch.Tensor:
    settings = {"crop": 2, "flip": True, "fill": torch.zeros(images.shape[1], 1, 1)} | options
    return crop_and_flip(images, generator=torch.Generator().manual_seed(seed), **settings)


@given(crop=st.integers(0, 4), flip=st.booleans(), seed=st.integers(0, 100), size=st.integers(1, 9))
def test_every_image_is_a_crop_of_its_padded_self_mirrored_or_not(crop: int, flip: bool, seed: int, size: int) -> None:
    """Checked against torchvision's pad, crop and hflip at every possible place."""
    functional = import_torchvision().transforms.functional
    images = torch.rand(3, 2, size, size, generator=torch.Generator().manual_seed(seed))
    fill = torch.tensor([-1.0, -2.0])[:, None, None]
    out = draw(images, seed, crop=crop, flip=flip, fill=fill)
    assert out.is_contiguous()
    assert out.shape == images.shape
    for image, augmented in zip(images, out, strict=True):
        padded = torch.cat([functional.pad(channel[None], [crop], fill=value.item()) for channel, value in zip(image, fill, strict=True)])
        places = [(top, left) for top in range(2 * crop + 1) for left in range(2 * crop + 1)]
        crops = [functional.crop(padded, top, left, size, size) for top, left in places]
        allowed = crops + [functional.hflip(each) for each in crops] if flip else crops
        assert any(torch.equal(augmented, each) for each in allowed)


def test_all_places_and_both_sides_are_equally_likely() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3) + 1
    out = draw(image.expand(18_000, 1, 3, 3), crop=1)
    kinds, counts = torch.unique(out.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 18
    assert counts.min() > 1000 - 5 * 31
    assert counts.max() < 1000 + 5 * 31


def test_the_generator_alone_decides() -> None:
    images = torch.rand(20, 3, 8, 8)
    assert torch.equal(draw(images), draw(images))
    assert not torch.equal(draw(images), draw(images, seed=1))


@pytest.mark.parametrize("flip", [False, True])
def test_the_images_stay_as_they_were(flip: bool) -> None:
    images = torch.rand(5, 3, 8, 8)
    before = images.clone()
    out = draw(images, crop=0, flip=flip)
    assert torch.equal(images, before)
    assert torch.equal(out, images) == (not flip)
