"""SVCCA's theorem 1 and appendix 2: covariance of a convolutional layer in pixels and in frequencies."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from figures.style import Quantities, Tables, note_missing, requires

MEASUREMENT = "fourier_theorem"
CASES = {
    "no translations, pixel basis": "images, pixels",
    "no translations, fourier basis": "images, frequencies",
    "all translations": "all translations,\nfrequencies",
    "all translations, zero padding": "all translations, frequencies,\nzero padding",
}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Per seed: off-block over on-block covariance (Frobenius), what the DFT does to it, and the coefficients' largest difference."""
    ratios = tables[MEASUREMENT]["ratios"].pivot(index="seed", columns="case", values="off_block_over_on_block")
    differences = tables[MEASUREMENT]["coefficients"].pivot(index="seed", columns="padding", values="largest_difference")
    pixel = ratios["no translations, pixel basis"]
    return {
        "off_block_over_on_block": ratios["all translations"],
        "off_block_over_on_block_zero_padding": ratios["all translations, zero padding"],
        "coefficient_difference": differences["circular"],
        "coefficient_difference_zero_padding": differences["zeros"],
        "fourier_gain": pixel / ratios["no translations, fourier basis"],
        "random_basis_gain": pixel / ratios["no translations, random basis"],
    }


def draw(tables: Tables) -> Figure:
    """Norms of covariance blocks, one pixel per pair of positions or frequencies, relative to the largest; first seed."""
    figure, panels = plt.subplots(1, len(CASES), figsize=(11, 3.1))
    if note_missing(tables, MEASUREMENT, panels, "Fourier basis"):
        return figure
    measured = tables[MEASUREMENT]
    blocks = measured["blocks"][measured["blocks"]["seed"] == measured["blocks"]["seed"].min()]
    ratios = measured["ratios"].groupby("case")["off_block_over_on_block"].mean()
    for axes, (case, title) in zip(panels, CASES.items(), strict=True):
        norms = blocks[blocks["case"] == case].pivot(index="row", columns="column", values="norm").to_numpy()
        image = axes.imshow(np.maximum(norms / norms.max(), 1e-8), norm=LogNorm(1e-8, 1), cmap="viridis", interpolation="nearest")
        what = "frequency" if "frequencies" in title else "pixel"
        axes.set(xlabel=what, ylabel=what, xticks=[], yticks=[])
        axes.set_title(f"{title}\noff / on block: {ratios[case]:.2g}", fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.75, pad=0.01)
    bar.set_label("norm of covariance block / largest (log)")
    return figure
