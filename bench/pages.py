"""The page of a run: where it is written, how a terminal names it, and a browser that shows it."""

import sys
import webbrowser
from functools import partial
from pathlib import Path

from . import store
from .record import Run


def write(run: Run, out: Path) -> Path:
    from . import report

    store.guarded(partial(store.folder, out / "reports"), out)
    return store.guarded(partial(report.write, run, out / "reports" / run.name / "index.html"), out)


def address(page: Path) -> str:
    """An address that a terminal opens at a click; in a log the path as it is, which is shorter."""
    return page.resolve().as_uri() if sys.stdout.isatty() else str(page)


def show(page: Path) -> None:
    if not webbrowser.open(page.resolve().as_uri()):
        print(f"layerbench: --open: no browser was found; open {page} yourself", file=sys.stderr)
