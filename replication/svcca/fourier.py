"""CCA of convolutional layers frequency by frequency (SVCCA, section 3 and theorems 1 and 2).

Where the layers are equivariant to circular shifts and the images hold all translations, covariances are block diagonal after a
two-dimensional discrete Fourier transform of every channel, and the coefficients of the flattened layers are the union of those of
the blocks. Translations add no examples to a block: the base images have to outnumber the channels.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from replication.errors import ReplicationError
from replication.svcca.factor import coupling, factorise
from replication.svcca.matrices import as_floating, check_pair, constant_level, cross_product, not_finite
from replication.svcca.orthonormal import Rounding, singular_values, whitening

_NUMBERS = 2**22  # activations transformed at a time
_WELL_CONDITIONED = 1e6  # eigenvalue ratio of a block's Gram matrix up to which its coefficients are good to 1e-8


@dataclass(frozen=True)
class FourierCca:
    """Canonical correlations of every frequency. Conjugate frequencies have the same ones and share a block.

    Attributes:
        coefficients: float64 ``[blocks, c]`` in [0, 1], largest first, 0 beyond ``counts``.
        counts: min(rank_x, rank_y) of each block, ``[blocks]``.
        block_of: the block of every frequency, ``[s_vertical, s_horizontal]``; negative frequencies at negative indices, as in an FFT.
    """

    coefficients: Tensor
    counts: Tensor
    block_of: Tensor

    @property
    def means(self) -> Tensor:
        """Mean ρ of every frequency ``[s_vertical, s_horizontal]``, 0 where a layer is constant."""
        return (self.coefficients.sum(1) / self.counts.clamp(min=1))[self.block_of]

    @property
    def similarity(self) -> float:
        """Mean of ``means``: every frequency has the same weight."""
        return self.means.mean().item()

    @property
    def union(self) -> Tensor:
        """All coefficients of all frequencies, largest first: those of the flattened layers where the theorem holds."""
        frequencies = self.block_of.flatten()
        used = torch.arange(self.coefficients.shape[1], device=self.counts.device) < self.counts[frequencies, None]
        return self.coefficients[frequencies][used].sort(descending=True).values

    def at(self, vertical: int, horizontal: int) -> Tensor:
        """Coefficients ``[count]`` of one frequency, 0 to s - 1 or negative."""
        block = self.block_of[vertical, horizontal]
        return self.coefficients[block, : self.counts[block]]


def fourier_cca(x: Tensor, y: Tensor) -> FourierCca:
    """CCA of two convolutional layers frequency by frequency (SVCCA, section 3 and theorem 2), in float64.

    Maps of different sizes are compared at the frequencies -s/2 <= f < s/2 of the smaller one. A vector is compared with a
    convolutional layer at the constant frequency alone, which is the spatial mean.

    Args:
        x, y: real, ``[n_examples, channels, height, width]`` or ``[n_examples, neurons]``, on the same examples.

    Raises:
        ReplicationError: other shapes, unequal numbers of examples, fewer than two examples, or non-finite values.

    >>> x = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    >>> y = x.roll(1, 2)  # a shift only turns the phase of a frequency
    >>> result = fourier_cca(x, y)
    >>> (result.means.shape, round(result.similarity, 6), result.at(1, -2).shape)
    (torch.Size([4, 4]), 1.0, torch.Size([3]))
    """
    x, y = _as_maps(x, "x"), _as_maps(y, "y")
    check_pair(x, y)
    if len(x) < 2:
        raise ReplicationError("The layers have 1 example; give two or more.")
    frequencies, block_of = _half_plane(tuple(x.shape[2:]), tuple(y.shape[2:]))
    means = _finite_mean(x, "x"), _finite_mean(y, "y")
    gram_x, product, gram_y, floor_x, floor_y = _sums_of_products(x, y, means, frequencies)
    weights_x, _, condition_x = whitening(gram_x)
    weights_y, _, condition_y = whitening(gram_y)
    well = (torch.maximum(condition_x, condition_y) <= _WELL_CONDITIONED) & (len(x) > max(x.shape[1], y.shape[1]) + 1)
    roundings = [_rounding(z.dtype, floor) for z, floor in ((x, floor_x), (y, floor_y))]
    for gram, condition, rounding in ((gram_x, condition_x, roundings[0]), (gram_y, condition_y, roundings[1])):
        norms = gram.diagonal(dim1=1, dim2=2).real.sqrt()
        well &= (norms > rounding.largest_of_constants(norms, norms.dtype)).all(1)
        well &= (2 * rounding.relative(norms) * condition.sqrt()[:, None] < 1).all(1)
    count = min(x.shape[1], y.shape[1])
    coefficients = torch.zeros(len(frequencies), count, dtype=torch.float64, device=x.device)
    counts = torch.full((len(frequencies),), count, device=x.device)
    coefficients[well] = singular_values(weights_x[well].mH @ product[well] @ weights_y[well])
    for block in (~well).nonzero()[:, 0].tolist():
        sides = ((x, means[0], floor_x), (y, means[1], floor_y))
        values = _carefully([_one_frequency(*side, frequencies[block]) for side in sides], roundings)
        coefficients[block, : len(values)] = values
        counts[block] = len(values)
    return FourierCca(coefficients=coefficients, counts=counts, block_of=block_of.to(x.device))


def _half_plane(size_x: tuple[int, ...], size_y: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """One frequency of each pair of conjugates ``[blocks, 2]``, its horizontal part not negative, and ``block_of``.

    The edge -s/2 is its own conjugate in a map of size s and not in a larger one, so remainders in both maps decide which frequencies
    are the same.
    """
    smaller = [min(a, b) for a, b in zip(size_x, size_y, strict=True)]
    block_of = torch.zeros(smaller, dtype=torch.long)
    blocks: dict[tuple[int, ...], int] = {}
    frequencies: list[tuple[int, int]] = []
    vertical, horizontal = (range(-(size // 2), (size + 1) // 2) for size in smaller)
    for v, h in ((v, h) for v in vertical for h in horizontal):
        both = [tuple(f % size for f, size in zip((*pair, *pair), (*size_x, *size_y), strict=True)) for pair in ((v, h), (-v, -h))]
        if min(both) not in blocks:
            blocks[min(both)] = len(frequencies)
            frequencies.append((v, h) if h >= 0 else (-v, -h))
        block_of[v, h] = blocks[min(both)]
    return torch.tensor(frequencies), block_of


def _sums_of_products(x: Tensor, y: Tensor, means: tuple[Tensor, Tensor], frequencies: Tensor) -> tuple[Tensor, ...]:
    """Z_x^H Z_x, Z_x^H Z_y, Z_y^H Z_y ``[blocks, ., .]``, and the square norms below which a channel is rounding ``[channels]``.

    The examples are transformed in chunks, so that memory does not grow with their number.
    """
    totals: list[Tensor | float] = [0.0] * 5
    numbers = max(x[0].numel(), y[0].numel())
    for part in zip(*(z.split(max(1, _NUMBERS // numbers)) for z in (x, y)), strict=True):
        a, b = (_transformed(z, mean, frequencies) for z, mean in zip(part, means, strict=True))
        floors = [_level(z.dtype) ** 2 * z.double().square().sum((0, 2, 3)) for z in part]
        terms = (cross_product(a, a), cross_product(a, b), cross_product(b, b), *floors)
        totals = [total + term for total, term in zip(totals, terms, strict=True)]
    return tuple(torch.as_tensor(total) for total in totals)


def _transformed(x: Tensor, mean: Tensor, frequencies: Tensor) -> Tensor:
    """The centred maps at these frequencies, complex128 ``[blocks, n, channels]``."""
    transform = torch.fft.rfft2(x.double() - mean)
    vertical, horizontal = frequencies.to(x.device).unbind(1)
    return transform.permute(2, 3, 0, 1)[vertical % x.shape[2], horizontal]


def _one_frequency(x: Tensor, mean: Tensor, floor: Tensor, frequency: Tensor) -> Tensor:
    """The centred maps at one frequency ``[n, channels]``, exactly 0 for channels that have only rounding there."""
    parts = x.split(max(1, _NUMBERS // x[0].numel()))
    block = torch.cat([_transformed(part, mean, frequency[None])[0] for part in parts])
    return block * (block.abs().square().sum(0) > floor)


def _level(dtype: torch.dtype) -> float:
    """Share of a channel's norm that rounding in this type may have at one frequency."""
    return constant_level(torch.finfo(dtype).eps, _arithmetic(dtype))


def _arithmetic(dtype: torch.dtype) -> float:
    return min(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


def _rounding(dtype: torch.dtype, floor: Tensor) -> Rounding:
    """The rounding of every channel at one frequency: maps of this type, and square norms that are rounding ``[channels]``."""
    eps, constant = torch.finfo(dtype).eps, floor.sqrt()
    return Rounding(eps=eps, arithmetic=_arithmetic(dtype), constant=constant, norms=eps / _level(dtype) * constant)


def _carefully(blocks: list[Tensor], roundings: list[Rounding]) -> Tensor:
    """Coefficients of one block of any rank."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # blurred layers have many empty blocks: no warning
        x, y = (factorise(block, rounding=rounding) for block, rounding in zip(blocks, roundings, strict=True))
    return singular_values(coupling(x, y))


def _as_maps(x: Tensor, name: str) -> Tensor:
    x = as_floating(x, name)
    x = x[:, :, None, None] if x.dim() == 2 else x
    if x.dim() != 4 or x.is_complex() or not x.numel():
        raise ReplicationError(
            f"{name} is a tensor of {x.dtype} of shape {tuple(x.shape)}; allowed: real numbers [n_examples, channels, height, width] or "
            "[n_examples, neurons]."
        )
    return x


def _finite_mean(x: Tensor, name: str) -> Tensor:
    mean = x.mean(0, dtype=torch.float64)
    if not mean.isfinite().all():
        raise not_finite(x, name)
    return mean
