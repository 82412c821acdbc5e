"""A plugin for pytest: a failure is told when it comes, so that a run that is stopped at its limit has told those it met."""

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        print(f"\nTOLD {report.nodeid} {report.when}\n{str(report.longrepr)[-1500:]}\n", flush=True)
