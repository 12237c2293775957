"""Stiffness version 1, Figure 6: class matrices of the convolutional network on CIFAR-10 over training."""

from matplotlib.figure import Figure

from figures.stiffness_v1_tables import draw_panels, of_moments
from figures.style import Quantities, Tables, requires

MEASUREMENT, RUN = "v1_cifar10_pairs", "v1_cifar10"
MOMENTS = {"0": "0", "1600": "1,600 images", "672000": "14 epochs", "1584000": "33 epochs"}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Means of the diagonal and of the cells off it at the published moments."""
    return of_moments(tables, MEASUREMENT, RUN)


def draw(tables: Tables) -> Figure:
    """Rows: published, ours in float32, ours exact; columns: moments of training."""
    return draw_panels(tables, MEASUREMENT, RUN, "figure_6", MOMENTS, "CNN on CIFAR-10")
