"""Kinds of repository by what the layers do while they are imported or called."""

from pathlib import Path

from repository import FILES, IS_WRONG, MAIN, PLAIN, SAME, SILU, SUITE, VALUE, Asked, Kind, Make, changed, edit, layer


def head(top: str = "", first: str = "", value: str = VALUE, *words: str) -> Make:
    """The head's SiLU does something that the base's does not."""
    return edit({"layers/silu.py": layer(top=top, first=first, value=value)}, *PLAIN, *words)


def base(first: str) -> Make:
    """The base's SiLU does something that the head's does not."""
    return edit({"layers/silu.py": SILU}, "-k", "plain", before={**FILES, "layers/silu.py": layer(first=first)})


def both(top: str, first: str = "", value: str = "x * x.sigmoid() * 1.001", **variables: str) -> Make:
    """Both sides do it, and the head is wrong besides."""

    def make(folder: Path) -> Asked:
        before = {**FILES, "layers/silu.py": layer(top=top, first=first)}
        root = changed(folder / "toy", before, {"layers/silu.py": layer(top=top, first=first, value=value)})
        return Asked(root, (*SUITE, *MAIN, *PLAIN), variables)

    return make


def at_work(first: str, top: str = "") -> Make:
    """Both sides do it when they are called; the code of the head is another one and as fast, so it is timed."""
    return edit(
        {"layers/silu.py": layer(top=top, first=first, value="x.sigmoid() * x")},
        *(*PLAIN, "--threshold", "50%"),
        before={**FILES, "layers/silu.py": layer(top=top, first=first)},
    )


def hides(top: str) -> Make:
    """It names what is imported nowhere in its text."""
    return edit({"lib.txt": "more\n"}, before={**FILES, "layers/silu.py": layer(top=top)})


WRITES = 'import pathlib, json\nCACHE = pathlib.Path(__file__).with_name("tuned.json")'
WRITING = 'CACHE.write_text(json.dumps({"calls": id(x)}))'
CHDIR = "import os, tempfile\nos.chdir(tempfile.gettempdir())"
NEEDS = 'import os\nWIDTH = int(os.environ["TOY_WIDTH"])'
CRASH, SEGFAULT = "import os; os._exit(3)", "import ctypes; ctypes.string_at(0)"
SLEEP = "import time; time.sleep(1000)"

KINDS = (
    Kind("suite changes the working directory", both(CHDIR), 1, IS_WRONG),
    Kind("suite prints", both('print("tuning, please wait")'), 1, IS_WRONG, "tuning"),
    Kind("head calls sys.exit at import", head("import sys\nsys.exit(0)"), 1, "cannot be imported at the head", "wrong"),
    Kind("both sides call sys.exit at import", both("import sys\nsys.exit(0)"), 2, "SystemExit"),
    Kind("layer writes a data file beside itself when called", at_work(WRITING, WRITES), 0, "1 benchmark compared", "has changed"),
    Kind("layer writes a data file beside itself at import", both(f"{WRITES}\nx = 0\n{WRITING}"), 1, IS_WRONG, "has changed"),
    Kind("layer that ends the process, at the head", head(first=CRASH), 1, IS_WRONG),
    Kind("layer that ends the process, at the base", base(CRASH), 0, "^1 benchmark was not compared: base"),
    Kind("layer that crashes the process, at the head", head(first=SEGFAULT), 1, IS_WRONG),
    Kind("layer that hangs, at the head", head("", SLEEP, VALUE, "--hang-limit", "8"), 1, IS_WRONG),
    Kind("suite needs an environment variable, set", both(NEEDS, TOY_WIDTH="4"), 1, IS_WRONG),
    Kind("suite needs an environment variable, not set", both(NEEDS), 2, "KeyError: 'TOY_WIDTH'"),
    Kind("suite sets an environment variable", both('import os\nos.environ["TOY_WIDTH"] = str(id(os))'), 1, IS_WRONG),
    Kind("suite calls exec", hides('exec("import math")'), 0, SAME),
    Kind("layer raises at the head", head(first="raise RuntimeError('no kernel image')"), 1, IS_WRONG),
)
