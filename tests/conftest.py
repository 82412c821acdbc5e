"""What all tests share: measurements are collected only when they are asked for."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """test_points.py measures the whole installed suite, which takes minutes: only with --benchmark-only, or when it is named."""
    named = any(Path(argument.partition("::")[0]).name == collection_path.name for argument in config.args)
    if collection_path.name == "test_points.py" and not named and not config.getoption("benchmark_only"):
        return True
    return None
