"""What all tests share: no GPU in sight, a browser for the pages, and measurements that are collected only when they are asked for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import forked
import hidden
import pytest
import upstream

if not os.environ.get(hidden.SHOWN):
    hidden.hide()
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
    if upstream.TF32_WARNING.holds():
        config.addinivalue_line("filterwarnings", "ignore:Please use the new API settings to control TF32")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several processes: tests of a file that makes something once for all of them stay in one, so that it is made once.

    xdist's own groups are names at the end of a test's name, and pytest 9.2 lets nobody change that.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    @cache
    def together(file: str) -> bool:
        return '(scope="module")' in (config.rootpath / file).read_text(encoding="utf-8")

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if together(file) else nodeid

    return Scheduling(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """test_points.py measures the whole installed suite, which takes minutes: only with --benchmark-only, or when it is named."""
    named = any(Path(argument.partition("::")[0]).name == collection_path.name for argument in config.args)
    if collection_path.name == "test_points.py" and not named and not config.getoption("benchmark_only"):
        return True
    return None
