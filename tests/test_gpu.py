"""Runs on_gpu.py, the tests that need a GPU, in a process that sees it."""

import subprocess
import sys
from pathlib import Path

import hidden
import pytest


def test_what_only_a_gpu_can_show() -> None:
    if not hidden.present():
        pytest.skip("no GPU on this machine: clock, graphs and memory are not tried on one")
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--benchmark-disable", "--tb=short", "-rs"]
    command = [sys.executable, "-m", "pytest", *words, str(Path(__file__).with_name("on_gpu.py"))]
    done = subprocess.run(command, env=hidden.shown(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    if " passed" not in done.stdout:
        pytest.skip(done.stdout.splitlines()[-1])
