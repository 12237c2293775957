"""Golden numbers: outputs of the papers' official code, and published values read off the papers' figures.

Beside this file:

- ``landscape.json``: directions, a surface, curvature and a PCA path of tomgoldstein/loss-landscape on a small network. Directions
  agree within 1e-6 relative, losses 1e-5, eigenvalues 1e-4, PCA 1e-5 (up to sign).
- ``svcca.json``: CCA, PWCCA, Fourier blocks and PCA of google/svcca. Most coefficients agree within 1e-8.
- ``stiffness_golden.json`` and ``stiffness_v1.json``: figures of arXiv 1901.09491v1, read twice and independently; error about 0.01.

Each file says in its first entries how its numbers were made. SVCCA's Figure 4 and the numbers of the figures of arXiv 1712.09913v3 lie in
``figures/published``, where figures draw them.
Two activation files of google/svcca's tutorial are not ours to distribute: ``golden`` looks for them in the folder
``REPLICATION_GOLDEN``, then in ``../shared/golden``.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def golden(name: str) -> Any:
    """The content of the JSON file ``name``, or the path of any other file; the test is skipped if there is no such file."""
    for folder in folders():
        path = folder / name
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else path
    pytest.skip(f"{name} is neither in tests/golden nor in REPLICATION_GOLDEN nor in ../shared/golden")


def folders() -> list[Path]:
    """Where golden files are looked for, in this order."""
    given = os.environ.get("REPLICATION_GOLDEN")
    return [HERE, *([Path(given)] if given else []), ROOT.parent / "shared" / "golden"]
