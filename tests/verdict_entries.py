"""Verdicts as they stand in a file of verdicts, and as they are read back."""

from typing import Any

from replication.claims.results import FigureVerdicts, JudgedClaim

ENTRY = {
    "id": "LCA-X1",
    "statement": "It falls.",
    "published": "negative (Figure 5)",
    "published_number": -1.75,
    "trust": "recalled",
    "quantity": "total",
    "unit": "%",
    "outcome": "reproduced",
    "reason": "interval inside",
    "required": True,
    "ci": True,
    "estimates": {"0": -1.25, "1": -1.5, "2": None},
    "mean": -1.4,
    "low": -2.0,
    "high": -1.0,
    "region": "below 0",
    "low_edge": None,
    "high_edge": 0.0,
    "basis": "analytic",
    "control": "not_reproduced",
    "control_mean": 0.5,
    "breaks": "the sign",
    "discrepancy": "",
    "post_hoc": False,
    "amendments": [],
}


PLACE = {"scale": "full", "paper": "lca", "title": "LCA", "figure": "lca_x", "reproduces": "LCA, Figure 9"}


def verdict(**changes: Any) -> JudgedClaim:
    return JudgedClaim(**(ENTRY | changes))


def figure_verdicts(*changes: dict[str, Any], **place: Any) -> FigureVerdicts:
    """A figure with one claim for each of ``changes``."""
    return FigureVerdicts(**(PLACE | {"verdicts": [verdict(**each) for each in changes]} | place))
