"""The libraries that the suites of this folder take their variants from, and how they are installed.

Not into layerbench's own environment: into a folder that is put on PYTHONPATH, where the torch of the environment stays in use.
"""

import contextlib
import importlib
import importlib.util

import torch

LIBRARIES = ("timm==1.0.31", "transformers==5.24.0", "diffusers==0.42.1", "liger-kernel==0.8.5", "torchvision==0.28.0")
BENEATH = (
    *("huggingface_hub", "safetensors", "tokenizers", "regex", "tqdm", "pyyaml", "packaging", "filelock", "fsspec", "requests", "urllib3"),
    *("importlib_metadata", "zipp", "pillow", "httpx2", "httpcore2", "truststore", "anyio", "h11", "idna", "certifi", "hf-xet"),
    *("charset_normalizer", "click"),
)
FOLDER = "rightsite"


def need(*modules: str) -> None:
    """Raises ImportError, which says what to type, where one of the modules is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{missing[0]} is not installed; type  pip install --no-deps --target {FOLDER} {' '.join(LIBRARIES + BENEATH)}  "
            f"and set PYTHONPATH={FOLDER}"
        )
    _torchvision()


def _torchvision() -> None:
    """Import it where it was built for CUDA and torch was not: then it finds none of its operators, and needs the names of two."""
    if importlib.util.find_spec("torchvision") is None:
        return
    with contextlib.suppress(RuntimeError):
        importlib.import_module("torchvision")
        return
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")
