"""Claims that can fail: verdicts from intervals over seeds, and how they are shown.

- ``verdicts``: the verdict on a claim, and the lock; ``statistics``: intervals over seeds.
- ``report``: tables for the terminal; ``page``: every claim on one page of HTML.
"""

from replication.claims.verdicts import (
    LOCK,
    Outcome,
    Verdict,
    amend,
    amendments,
    check_lock,
    claim_hash,
    compare,
    exit_status,
    judge,
    lock_new,
    region_text,
)

__all__ = [
    "LOCK",
    "Outcome",
    "Verdict",
    "amend",
    "amendments",
    "check_lock",
    "claim_hash",
    "compare",
    "exit_status",
    "judge",
    "lock_new",
    "region_text",
]
