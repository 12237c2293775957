"""Stiffness version 1, Figure 5: class matrices of the fully connected network on Fashion-MNIST over training."""

from matplotlib.figure import Figure

from figures.stiffness_v1_tables import draw_panels, of_moments
from figures.style import Quantities, Tables, requires

MEASUREMENT, RUN = "v1_fashion_pairs", "v1_fashion"
MOMENTS = {"0": "0", "800": "800 images", "638176": "11 epochs", "5627552": "97 epochs"}


@requires(MEASUREMENT)
def quantities(tables: Tables) -> Quantities:
    """Means of the diagonal and of the cells off it at the published moments."""
    return of_moments(tables, MEASUREMENT, RUN)


def draw(tables: Tables) -> Figure:
    """Rows: published, ours in float32, ours exact; columns: moments of training."""
    return draw_panels(tables, MEASUREMENT, RUN, "figure_5", MOMENTS, "FC on Fashion-MNIST")
