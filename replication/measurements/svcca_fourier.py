"""Covariance in the Fourier basis, with and without translations, and the coefficients it gives (SVCCA, theorems 1 and 2, appendix 2)."""

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from replication.measurements import Arrays, Progress, Tables
from replication.measurements.columns import pack, unpack
from replication.schema.svcca import FourierConfig
from replication.svcca.canonical import cca
from replication.svcca.fourier import fourier_cca
from replication.svcca.views import flattened
from replication.training.trained_run import TrainedRun

Padding = Literal["circular", "zeros"]
_WIDTHS = (3, 5, 4)  # channels of the images and of the two layers


def measure(config: FourierConfig, runs: Sequence[TrainedRun], *, seed: int, part: int, progress: Progress) -> Arrays:
    """Norms of covariance blocks in several bases, and how far Fourier CCA is from CCA of the flattened layers."""
    generator = torch.Generator().manual_seed(seed)
    kernels = [torch.randn(b, a, 3, 3, generator=generator, dtype=torch.float64) / (9 * a) ** 0.5 for a, b in itertools.pairwise(_WIDTHS)]
    base = all_translations(natural_images(config.base_images, config.size, generator))
    plain = natural_images(config.images, config.size, generator)
    bases = {"pixel": torch.eye(config.size**2), "fourier": fourier_basis(config.size), "random": random_basis(config.size, generator)}
    cases: list[tuple[str, Tensor, Padding, str]] = [
        ("all translations", base, "circular", "fourier"),
        ("all translations, zero padding", base, "zeros", "fourier"),
        *((f"no translations, {name} basis", plain, "circular", name) for name in bases),
    ]
    blocks, ratios = [], []
    for case, images, padding, basis in cases:
        norms = block_norms(layers_of(images, kernels, padding)[0], bases[basis])
        row, column = np.indices(norms.shape)
        blocks.append(pd.DataFrame({"case": case, "row": row.ravel(), "column": column.ravel(), "norm": norms.ravel()}))
        off = norms[~np.eye(len(norms), dtype=bool)]
        ratios.append((case, float(np.linalg.norm(off) / np.linalg.norm(np.diag(norms)))))
    differences = [(padding, coefficient_difference(*layers_of(base, kernels, padding))) for padding in ("circular", "zeros")]
    tables = {"ratios": pd.DataFrame(ratios, columns=["case", "off_block_over_on_block"])}
    tables |= {"coefficients": pd.DataFrame(differences, columns=["padding", "largest_difference"]), "blocks": pd.concat(blocks)}
    return pack(tables)


def tables(config: FourierConfig, parts: Sequence[Arrays]) -> Tables:
    """``ratios`` and ``blocks`` (norms of covariance blocks) by case, ``coefficients`` by padding."""
    return unpack(parts)


def natural_images(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Crops of Gaussian fields four times as large with the 1 / f amplitudes of photographs, ``[n, 3, size, size]`` float64."""
    large = 4 * size
    frequency = torch.fft.fftfreq(large, dtype=torch.float64)
    radius = (frequency[:, None].square() + frequency.square()).sqrt().clamp(min=1 / large)
    white = torch.randn(n, _WIDTHS[0], large, large, generator=generator, dtype=torch.float64)
    return torch.fft.ifft2(torch.fft.fft2(white) / radius).real[:, :, :size, :size] / large


def all_translations(images: Tensor) -> Tensor:
    """Every circular shift of every image."""
    size = images.shape[-1]
    return torch.cat([images.roll((i, j), (2, 3)) for i in range(size) for j in range(size)])


def layers_of(images: Tensor, kernels: Sequence[Tensor], padding: Padding) -> list[Tensor]:
    """Outputs of convolution and ReLU, layer by layer."""
    outputs = []
    for kernel in kernels:
        images = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="circular" if padding == "circular" else "constant"), kernel).relu()
        outputs.append(images)
    return outputs


def fourier_basis(size: int) -> Tensor:
    """The unitary two-dimensional discrete Fourier transform of maps, ``[size^2, size^2]``."""
    one = torch.fft.fft(torch.eye(size, dtype=torch.float64), norm="ortho")
    return torch.kron(one, one)


def random_basis(size: int, generator: torch.Generator) -> Tensor:
    """An orthonormal basis of maps that has nothing to do with space."""
    return torch.linalg.qr(torch.randn(size**2, size**2, generator=generator, dtype=torch.float64))[0]


def block_norms(maps: Tensor, basis: Tensor) -> np.ndarray:
    """Frobenius norms of the blocks, channels x channels, of the covariance of all values in a basis of positions."""
    n, channels = maps.shape[:2]
    values = maps.flatten(2).to(torch.complex128) @ basis.to(torch.complex128).T
    values = (values - values.mean(0)).transpose(1, 2).reshape(n, -1)
    covariance = (values.mH @ values / n).abs()
    positions = len(basis)
    return covariance.reshape(positions, channels, positions, channels).square().sum((1, 3)).sqrt().numpy()


def coefficient_difference(x: Tensor, y: Tensor) -> float:
    """Largest difference between the sorted coefficients of the flattened layers and the union over frequencies."""
    flat = cca(flattened(x), flattened(y)).coefficients
    union = fourier_cca(x, y).union
    n = max(len(flat), len(union))
    return (F.pad(flat, (0, n - len(flat))) - F.pad(union, (0, n - len(union)))).abs().max().item()
