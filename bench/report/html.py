"""What every page of ours is made with: templates, the files beside them, and the rule that a page may load nothing.  No content."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

import jinja2

from . import words

HERE = Path(__file__).parent


def environment(folder: Path = HERE) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "duration": words.duration,
        "size": words.size,
        "bytes": words.count_bytes,
        "whole": words.whole,
        "seconds": words.seconds,
        "times": words.times,
    }
    made.globals["plural"] = words.plural
    return made


def read(name: str, folder: Path = HERE) -> str:
    return (folder / name).read_text(encoding="utf-8")


def policy(scripts: Iterable[str]) -> str:
    """Nothing may load and only these scripts may run.  Inline styles are allowed because plotly.js sets them."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
