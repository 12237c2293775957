"""The public workflow does what .ci/run does."""

import re
import tomllib
from pathlib import Path

import yaml

WORKFLOW = yaml.safe_load(Path(".github/workflows/ci.yml").read_text(encoding="utf-8"))
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_it_runs_every_command_of_the_gate_and_the_strict_pages() -> None:
    gate = [line for line in Path(".ci/run").read_text().splitlines() if line.startswith("make ")]
    assert gate
    assert {*gate, "make docs"} <= {step.get("run") for step in STEPS}


def test_it_begins_with_the_oldest_python_that_is_supported() -> None:
    oldest = re.match(r">=(\d+\.\d+)", tomllib.loads(Path("pyproject.toml").read_text())["project"]["requires-python"])
    assert oldest is not None
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"][0] == oldest[1]


def test_every_action_is_pinned_to_a_major_version() -> None:
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in used)
    assert WORKFLOW["permissions"] == {"contents": "read"}
