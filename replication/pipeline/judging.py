"""From a figure's quantities to the verdicts on its claims: one step of the DAG, without torch."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from replication.claims.lock import LOCK, amendments, check_lock
from replication.claims.results import QUANTITIES, FigureVerdicts, JudgedClaim, read_quantities, write_verdicts
from replication.claims.verdicts import judge
from replication.pipeline import configs, dag
from replication.pipeline.configs import RECORDED


def judge_figure(*, scale: str, paper: str, figure: str, quantities_file: Path, out: Path) -> None:
    """Judge a figure's claims; what is wrong shows as a verdict, and writing it always succeeds.

    Raises:
        ReplicationError: the quantities cannot be read, or a claim is not as it was locked.
    """
    quantities = read_quantities(quantities_file)
    config = dag.figure_of(scale, paper, figure)
    check_locked()
    amended = amendments(configs.FOLDER / LOCK)
    verdicts = [judge(claim, quantities, may_be_absent=scale == RECORDED) for claim in config.claims]
    judged = [JudgedClaim(**asdict(each), post_hoc=each.id in amended, amendments=amended.get(each.id, [])) for each in verdicts]
    title = dag.paper_of(scale, paper).paper.title
    content = FigureVerdicts(title=title, paper=paper, figure=figure, reproduces=config.reproduces, scale=scale, verdicts=judged)
    write_verdicts(out, content)


def check_locked() -> None:
    """Compare all claims with their lock.

    Raises:
        ReplicationError: a claim is new, was changed without an amendment, or was deleted.
    """
    check_lock(raw_claims(), configs.FOLDER / LOCK)


def claims_with_results() -> set[str]:
    """Ids of the claims whose figure was drawn at a scale that speaks for claims, or of which something is recorded."""
    claims = set()
    for paper, name, figure in dag.figures():
        drawn = any(Path(f"results/{scale}/{paper}/figures/{name}{QUANTITIES}").exists() for scale in ("reduced", "full", RECORDED))
        if drawn or dag.is_recorded(paper, name):
            claims |= {claim.id for claim in figure.claims}
    return claims


def raw_claims() -> dict[str, dict[str, Any]]:
    """Every claim as written in paper_configs, all scales side by side, by id."""
    claims: dict[str, dict[str, Any]] = {}
    for path in configs.paper_files():
        for figure in configs.read(path)["figures"].values():
            claims |= {claim["id"]: claim for claim in figure.get("claims", [])}
    return claims
