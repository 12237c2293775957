"""Claims that can fail: verdicts from intervals over seeds, and their tables and pages.

- ``statistics``: intervals over seeds; ``power``: how many seeds decide.
- ``verdicts``: the verdict on a claim, and the exit status of several.
- ``lock``: claims as they were before their evaluation seeds ran, and their amendments.
- ``results``: a figure's quantities and verdicts on disk.
- ``report``: tables for the terminal; ``page``: every claim on one page of HTML.
"""

from replication.claims.lock import LOCK, amend, amendments, check_lock, claim_hash, lock_new
from replication.claims.power import POWER, decision_probability, seeds_for_power
from replication.claims.results import FigureVerdicts, JudgedClaim, read_quantities, read_verdicts, write_verdicts
from replication.claims.statistics import LEVEL, mean_interval
from replication.claims.verdicts import Outcome, Verdict, compare, counted_as, exit_status, judge, region_text

__all__ = [
    "LEVEL",
    "LOCK",
    "POWER",
    "FigureVerdicts",
    "JudgedClaim",
    "Outcome",
    "Verdict",
    "amend",
    "amendments",
    "check_lock",
    "claim_hash",
    "compare",
    "counted_as",
    "decision_probability",
    "exit_status",
    "judge",
    "lock_new",
    "mean_interval",
    "read_quantities",
    "read_verdicts",
    "region_text",
    "seeds_for_power",
    "write_verdicts",
]
