"""What all tests share: a browser for the pages, and measurements that are collected only when they are asked for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import upstream

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # what is to be typed is then said by its name
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def forked_processes() -> Iterator[None]:
    """Python processes of ours are copies of one that has torch imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", forked.Popen)
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine: what the page does in a browser is not tested")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: what the page does in a browser is not tested")
    with api.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file, and at the end of the test wants no message on its console and no request but the files themselves."""
    contexts, said, asked, files = [], [], [], set()

    def go(file: Path, fragment: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        files.add(file.as_uri())
        page.goto(file.as_uri() + fragment)
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []
    assert {url.split("#")[0] for url in asked} <= files


def pytest_configure(config: pytest.Config) -> None:
    if upstream.JIT_WARNING.holds():
        config.addinivalue_line("filterwarnings", "ignore:`torch.jit:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes: tests that share what is made once for a file stay in one of them, so that it is made once."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs
        if any(made[-1].scope in ("module", "session") and made[-1].baseid == item.nodeid.partition("::")[0] for made in fixtures.values()):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """test_points.py measures the whole installed suite, which takes minutes: only with --benchmark-only, or when it is named."""
    named = any(Path(argument.partition("::")[0]).name == collection_path.name for argument in config.args)
    if collection_path.name == "test_points.py" and not named and not config.getoption("benchmark_only"):
        return True
    return None
