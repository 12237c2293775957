"""CCA frequency by frequency against CCA of each frequency and of the flattened layers."""

import pytest
import torch
from svcca_layers import DTYPES
from torch import nn

from replication import svcca
from replication.errors import ReplicationError


def circular_net(channels: int, size: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(2, channels, size, padding="same", padding_mode="circular"), nn.ReLU()).double()


def test_fourier_blocks_unite_to_the_flattened_layers_when_all_translations_are_there(generator: torch.Generator) -> None:
    base = torch.randn(12, 2, 4, 3, generator=generator, dtype=torch.float64)
    images = torch.cat([base.roll((i, j), (2, 3)) for i in range(4) for j in range(3)])
    x, y = circular_net(3, 3, 1)(images).detach(), circular_net(2, 3, 2)(images).detach()
    result = svcca.fourier_cca(x, y)
    expected = svcca.cca(svcca.flattened(x), svcca.flattened(y)).coefficients
    assert torch.allclose(result.union, expected, atol=1e-10)
    assert result.similarity == pytest.approx(expected.mean().item(), abs=1e-10)


@pytest.mark.parametrize(("size_x", "size_y"), [((6, 6), (6, 6)), ((5, 4), (5, 4)), ((8, 6), (4, 3)), ((3, 8), (6, 4)), ((4, 4), (1, 1))])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_fourier_block_is_cca_at_that_frequency(size_x: tuple[int, int], size_y: tuple[int, int], dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    common = torch.randn(80, 1, 1, 1, generator=g)
    x = (torch.randn(80, 4, *size_x, generator=g) + common).to(dtype)
    y = (torch.randn(80, 3, *size_y, generator=g) + common).to(dtype)
    result = svcca.fourier_cca(x, y)
    fx, fy = torch.fft.fft2(x.double()), torch.fft.fft2(y.double())
    spans = [range(-(min(a, b) // 2), (min(a, b) + 1) // 2) for a, b in zip(size_x, size_y, strict=True)]
    for v in spans[0]:
        for h in spans[1]:
            expected = svcca.cca(fx[..., v, h], fy[..., v, h]).coefficients
            assert torch.allclose(result.at(v, h), expected, atol=1e-10)
            assert result.means[v, h] == pytest.approx(expected.mean().item(), abs=1e-10)
    assert result.means.shape == (len(spans[0]), len(spans[1]))
    assert len(result.coefficients) <= result.means.numel() // 2 + 8


@pytest.mark.parametrize("dtype", DTYPES)
def test_fourier_blocks_without_content_have_similarity_zero(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, 1, 1, generator=g).expand(-1, -1, 4, 4).to(dtype) + 5  # constant in space
    result = svcca.fourier_cca(x, torch.randn(50, 2, 4, 4, generator=g).to(dtype))
    assert result.counts[result.block_of[0, 0]] == 2
    assert result.counts.sum() == 2
    assert result.means.count_nonzero() == 1
    assert len(result.at(1, 1)) == 0


def test_fourier_blocks_of_dependent_and_dead_channels() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, 4, 4, generator=g)
    more = torch.cat([x, x[:, :1] + x[:, 1:2], torch.zeros(50, 1, 4, 4)], 1)
    y = torch.randn(50, 5, 4, 4, generator=g)
    assert torch.allclose(svcca.fourier_cca(more, y).means, svcca.fourier_cca(x, y).means, atol=1e-6)


def test_vector_against_maps_compares_the_spatial_means() -> None:
    g = torch.Generator().manual_seed(0)
    x, logit = torch.randn(50, 3, 4, 4, generator=g, dtype=torch.float64), torch.randn(50, 1, generator=g, dtype=torch.float64)
    assert torch.allclose(svcca.fourier_cca(x, logit).union, svcca.cca(svcca.spatial_mean(x), logit).coefficients, atol=1e-12)


MISTAKES = {
    "shape": (lambda: svcca.fourier_cca(torch.zeros(3, 3, 3), torch.zeros(3, 3)), r"x is a tensor of torch.float32 of shape \(3, 3, 3\)"),
    "examples": (lambda: svcca.fourier_cca(torch.zeros(3, 3), torch.zeros(4, 3)), "same examples"),
    "nan": (lambda: svcca.fourier_cca(torch.zeros(3, 3), torch.zeros(3, 3) / 0), "y has 9 non-finite"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(mistake: str) -> None:
    call, message = MISTAKES[mistake]
    with pytest.raises(ReplicationError, match=message):
        call()
