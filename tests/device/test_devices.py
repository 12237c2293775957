"""The tests of ``on_pretended.py``, in a process of their own: PyTorch cannot forget a kind of device that was made known to it."""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).with_name("on_pretended.py")


def test_every_instrument_and_a_training_run_on_a_pretended_accelerator() -> None:
    ended = subprocess.run([sys.executable, "-m", "pytest", "-n", "0", "-q", str(TESTS)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-5000:]
    assert ended.stdout.count(".") >= 16, "fewer tests ran than there are"
