"""What is claimed: published values with their trust, acceptance regions with their basis, controls."""

import math
import re
from typing import Annotated, Literal, Self, cast

from pydantic import Field, ValidationInfo, model_validator

from replication.schema.base import Name, Strict

ClaimId = Annotated[str, Field(pattern=r"^[A-Z]+-[A-Za-z0-9-]+$")]
Trust = Literal["confirmed", "secondary", "recalled", "none"]
Basis = Literal["published", "published_spread", "rounding", "digitisation", "prediction_interval", "analytic", "pilot", "judgement"]
Kind = Literal["value", "difference", "ordering", "relation", "array", "identity"]


class Published(Strict):
    """What the paper says; ``trust`` is how well that is known, ``none`` where it gives no number.

    ``number`` is the published value on the scale of the claim's quantity, to be drawn beside the measured one; it judges nothing. A
    ``value`` that is a number needs none.
    """

    value: str
    where: str
    trust: Trust
    number: float | None = None

    @property
    def drawn(self) -> float | None:
        """The published number to draw, None where there is none.

        >>> Published(value="0.53", where="Figure 2", trust="confirmed").drawn
        0.53
        """
        if self.number is not None or self.trust == "recalled":
            return self.number
        return float(self.value) if re.fullmatch(r"[-+]?\d*\.?\d+", self.value) else None


class Expectation(Strict):
    """The acceptance region of a claim at one scale, and where it comes from."""

    rule: Literal["below", "above", "between"]
    bound: float | None = None
    low: float | None = None
    high: float | None = None
    basis: Basis
    note: str = ""
    speaks_for: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        interval = self.low is not None and self.high is not None and self.low < self.high and self.bound is None
        one_sided = self.bound is not None and self.low is None and self.high is None
        if self.rule == "between" and not interval:
            raise ValueError("has rule between, which needs low < high and no bound")
        if self.rule != "between" and not one_sided:
            raise ValueError(f"has rule {self.rule}, which needs bound and neither low nor high")
        if self.basis in ("judgement", "pilot") and not self.note:
            raise ValueError(f"has basis {self.basis} without a note; say in one sentence where the bound comes from")
        return self

    @property
    def region(self) -> tuple[float, float]:
        """The open interval in which the quantity must lie.

        >>> Expectation(rule="below", bound=0.0, basis="published").region
        (-inf, 0.0)
        """
        if self.rule == "below":
            return -math.inf, cast(float, self.bound)
        if self.rule == "above":
            return cast(float, self.bound), math.inf
        return cast(float, self.low), cast(float, self.high)

    def excludes(self, interval: list[float]) -> bool:
        """Whether an interval lies wholly outside of the region."""
        return interval[1] <= self.region[0] or interval[0] >= self.region[1]


class Control(Strict):
    """A quantity computed the same way with the claimed mechanism broken; the claim must fall on it."""

    quantity: Name
    breaks: str


class Discrepancy(Strict):
    """A claim that is known not to reproduce: evidence and a hypothesis; then success is the surprise.

    ``interval`` is the 90 % interval over seeds that decided it; for an identity the range of the seeds.
    """

    interval: Annotated[list[float], Field(min_length=2, max_length=2)]
    evidence: str
    hypothesis: str


class Claim(Strict):
    """A published statement, the quantity that measures it (one estimate per seed) and what is expected of it."""

    id: ClaimId
    statement: str
    kind: Kind
    published: Published
    quantity: Name
    unit: str = ""
    control: Control
    ci: bool = False
    expect: Expectation | None = None
    not_evaluated: str = ""
    discrepancy: Discrepancy | None = None
    withdrawn: str = ""

    @model_validator(mode="after")
    def _honest(self, info: ValidationInfo) -> Self:
        speechless = (info.context or {}).get("scale") == "smoke"
        if speechless and self.expect is not None:
            raise ValueError("has an expectation at scale smoke, which says nothing about claims; give it for reduced or full")
        if self.expect is None and not self.not_evaluated and not self.withdrawn and not speechless:
            raise ValueError("has no expectation at this scale; add one under expect or say why under not_evaluated")
        if self.expect is not None and self.expect.basis in ("published", "published_spread") and self.published.trust == "recalled":
            raise ValueError("bases its acceptance region on a recalled value, which may decide nothing; use another basis")
        if self.expect is not None and self.discrepancy is not None and not self.expect.excludes(self.discrepancy.interval):
            raise ValueError("has a known discrepancy whose interval is not outside of the acceptance region; an undecided claim has none")
        return self
