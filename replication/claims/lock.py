"""The lock that keeps claims from moving unseen: each claim as it was written before its evaluation seeds ran.

A locked claim may be changed with a stated reason only (an amendment), and is shown as post hoc from then on.
"""

import datetime
import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from replication.errors import ReplicationError
from replication.files.atomic import canonical_json, read_json, write_json

LOCK = "claims.lock"
RawClaims = Mapping[str, Mapping[str, Any]]  # claims as written in paper_configs, all scales side by side, by id


def claim_hash(raw: Mapping[str, Any]) -> str:
    """sha256 of a claim as written, all scales, without what is no part of what was claimed: ``discrepancy``, a finding, and ``number``
    under ``published``, where a mark is drawn.

    >>> claim = {"id": "LCA-X1", "statement": "The loss falls."}
    >>> claim_hash(claim) == claim_hash(claim | {"discrepancy": {"evidence": "It rises."}})
    True
    """
    claimed = {key: value for key, value in raw.items() if key != "discrepancy"}
    if isinstance(raw.get("published"), dict):
        claimed["published"] = {key: value for key, value in raw["published"].items() if key != "number"}
    return hashlib.sha256(canonical_json(claimed).encode()).hexdigest()


class Amendment(BaseModel):
    """When, why and knowing what a locked claim was changed."""

    date: str
    reason: str
    results_seen: bool


class LockedClaim(BaseModel):
    """One entry of the lock."""

    locked: str
    sha256: str
    claim: dict[str, Any]
    amendments: list[Amendment]


_LOCK = TypeAdapter(dict[str, LockedClaim])


def _read_lock(path: Path) -> dict[str, Any]:
    lock: dict[str, Any] = read_json(path)
    try:
        _LOCK.validate_python(lock, strict=True)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"])) or "the whole file"
        raise ReplicationError(
            f"{path} is damaged ({place} is not as `replicate lock` writes it); take it from the repository again."
        ) from None
    return lock


def check_lock(raw_claims: RawClaims, lock_path: Path) -> set[str]:
    """Compare claims with their lock and return the ids that were amended after they were locked (shown as post hoc).

    Raises:
        ReplicationError: a claim is new, was changed without an amendment, or was deleted.

    >>> import tempfile
    >>> lock, claims = Path(tempfile.mkdtemp()) / LOCK, {"LCA-X1": {"statement": "The loss falls."}}
    >>> lock_new(claims, lock)
    ['LCA-X1']
    >>> check_lock(claims, lock)
    set()
    """
    lock = _read_lock(lock_path) if lock_path.exists() else {}
    for claim_id, entry in lock.items():
        if claim_id not in raw_claims:
            raise ReplicationError(f"Claim {claim_id} was deleted; put it back and say under withdrawn why it does not count.")
        if claim_hash(raw_claims[claim_id]) != entry["sha256"]:
            raise ReplicationError(
                f"Claim {claim_id} differs from {lock_path}; if that is intended, "
                f'run `replicate amend {claim_id} --reason "..." --results-seen yes|no`.'
            )
    if new := [claim_id for claim_id in raw_claims if claim_id not in lock]:
        raise ReplicationError(f"Claim {new[0]} is not in {lock_path}; run `replicate lock` before its evaluation seeds run.")
    return {claim_id for claim_id, entry in lock.items() if entry["amendments"]}


def amendments(lock_path: Path) -> dict[str, list[str]]:
    """When each amended claim was changed, why, and whether results had been seen: sentences by claim.

    >>> amendments(Path("absent.lock"))
    {}
    """
    lock = _read_lock(lock_path) if lock_path.exists() else {}
    return {
        claim_id: [_amendment_text(change) for change in entry["amendments"]] for claim_id, entry in lock.items() if entry["amendments"]
    }


def _amendment_text(change: Mapping[str, Any]) -> str:
    knowledge = "results had been seen" if change["results_seen"] else "no result had been seen"
    return f"{change['date']}, {knowledge}: {change['reason']}"


def lock_new(raw_claims: RawClaims, lock_path: Path, *, with_results: Collection[str] = ()) -> list[str]:
    """Lock every claim that is not yet locked; returns their ids.

    Args:
        with_results: claims of figures that have results already; a claim among them that is new is post hoc from the start.

    >>> import tempfile
    >>> lock, claims = Path(tempfile.mkdtemp()) / LOCK, {"LCA-X1": {"statement": "The loss falls."}}
    >>> lock_new(claims, lock), lock_new(claims, lock)
    (['LCA-X1'], [])
    """
    lock = _read_lock(lock_path) if lock_path.exists() else {}
    new = [claim_id for claim_id in raw_claims if claim_id not in lock]
    for claim_id in new:
        raw = raw_claims[claim_id]
        late = {"date": _today(), "reason": "locked when its figure had results", "results_seen": True, "old": None, "new": raw}
        amendments = [late] if claim_id in with_results else []
        lock[claim_id] = {"locked": _today(), "sha256": claim_hash(raw), "claim": raw, "amendments": amendments}
    write_json(lock_path, lock)
    return new


def amend(claim_id: str, raw: Mapping[str, Any], lock_path: Path, *, reason: str, results_seen: bool) -> None:
    """Record that a claim was changed: when, why, from what, and whether results had been seen.

    >>> import tempfile
    >>> lock, changed = Path(tempfile.mkdtemp()) / LOCK, {"statement": "The loss falls by half."}
    >>> new = lock_new({"LCA-X1": {"statement": "The loss falls."}}, lock)
    >>> amend("LCA-X1", changed, lock, reason="The figure was misread.", results_seen=False)
    >>> check_lock({"LCA-X1": changed}, lock)
    {'LCA-X1'}
    """
    lock = _read_lock(lock_path)
    if claim_id not in lock:
        raise ReplicationError(f"Claim {claim_id} is not in {lock_path}; allowed: {', '.join(lock)}.")
    if not reason.strip():
        raise ReplicationError(f"The amendment of claim {claim_id} has no reason; say in one sentence why the claim was changed.")
    entry = lock[claim_id]
    change = {"date": _today(), "reason": reason, "results_seen": results_seen, "old": entry["claim"], "new": raw}
    entry |= {"sha256": claim_hash(raw), "claim": raw, "amendments": [*entry["amendments"], change]}
    write_json(lock_path, lock)


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
