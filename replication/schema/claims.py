"""What is claimed: published values with their trust, acceptance regions with their basis, controls."""

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from replication.schema.base import Name, Strict

ClaimId = Annotated[str, Field(pattern=r"^[A-Z]+-[A-Za-z0-9-]+$")]
Trust = Literal["confirmed", "secondary", "recalled", "none"]
Basis = Literal["published", "published_spread", "rounding", "digitisation", "prediction_interval", "analytic", "pilot", "judgement"]
Kind = Literal["value", "difference", "ordering", "relation", "array", "identity"]


class Published(Strict):
    """What the paper says; ``trust`` is how well that is known, ``none`` where it gives no number."""

    value: str
    where: str
    trust: Trust


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


class Control(Strict):
    """A quantity computed the same way with the claimed mechanism broken; the claim must fall on it."""

    quantity: Name
    breaks: str


class Discrepancy(Strict):
    """A claim that is known not to reproduce: evidence and a hypothesis; then success is the surprise."""

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
            raise ValueError("has an expectation at scale smoke, which speaks for no claim; give it for reduced or full")
        if self.expect is None and not self.not_evaluated and not self.withdrawn and not speechless:
            raise ValueError("has no expectation at this scale; add one under expect or say why under not_evaluated")
        if self.expect is not None and self.expect.basis in ("published", "published_spread") and self.published.trust == "recalled":
            raise ValueError("rests its acceptance region on a recalled value, which gates nothing; use another basis")
        return self
