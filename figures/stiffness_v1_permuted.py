"""Stiffness version 1, Figure 4: class matrices with permuted training labels."""

from matplotlib.figure import Figure

from figures.stiffness_v1_tables import draw_panels, of_moments
from figures.style import Quantities, Tables, requires

MEASUREMENT, RUN = "v1_mnist_permuted_pairs", "v1_mnist_permuted"
MOMENTS = {"0": "0", "4800": "4,800 images", "9600": "9,600 images", "754208": "13 epochs"}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Means of the diagonal and of the cells off it at the published moments."""
    return of_moments(tables, MEASUREMENT, RUN)


def draw(tables: Tables) -> Figure:
    """Rows: published, ours in float32, ours exact; columns: moments of training."""
    return draw_panels(tables, MEASUREMENT, RUN, "figure_4", MOMENTS, "FC on MNIST with permuted training labels")
