"""The colours of all plots: hues for what is compared, greys for references, controls and published values."""

from collections.abc import Hashable, Iterable

import matplotlib as mpl

BLUE, RED, GREEN, ORANGE, PURPLE, TEAL = "#1f3b73", "#d1495b", "#2a9d4a", "#e07b39", "#8e6bbf", "#2a9d8f"
SKY, AMBER, PALE_BLUE, PALE_GREEN, PALE_YELLOW = "#56b4e9", "#e6ab02", "#9fb3d9", "#8fd3a3", "#f4d58d"
GREY, LIGHT_GREY, FAINT_GREY = "#888888", "#c9ccd1", "#e8e8e8"
LOSS, HELPS, HURTS, NEUTRAL = BLUE, GREEN, RED, LIGHT_GREY  # green helps and red hurts, as in the LCA paper
SEQUENTIAL, DIVERGING = "viridis", "RdBu_r"  # colour maps: magnitudes; values around zero


def in_order(names: Iterable[Hashable]) -> dict[Hashable, tuple[float, float, float, float]]:
    """A colour for each name, from dark (first) to light (last).

    Example:
        >>> [mpl.colors.to_hex(colour) for colour in in_order(["input", "output"]).values()]
        ['#440154', '#bddf26']
    """
    ordered = list(dict.fromkeys(names))
    colours = mpl.colormaps[SEQUENTIAL]
    return {name: colours(0.9 * place / max(len(ordered) - 1, 1)) for place, name in enumerate(ordered)}  # yellow itself is hard to see
