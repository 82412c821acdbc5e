"""Where a layer's function variant promises to keep less for backward than stock, the memory record shows it, by number."""

import pytest
import torch

from layerbench.bench.profiling.memory import weigh
from layerbench.bench.subject import make
from layerbench.bench.suite import mount

LAYERS = {each.layer.name: each.layer for each in mount.mount(mount.DEFAULT)}
F32 = 4  # bytes

# layer -> size, bytes that stock saves at least, bytes that the function variant saves
SAVED: dict[str, tuple[dict[str, int], int, int]] = {
    "crossentropy": ({"batch": 4, "classes": 1000}, F32 * 4 * 1000, 0),  # the log-softmax; nothing
    "linear_crossentropy": ({"batch": 16, "width": 64, "classes": 1000}, F32 * 16 * 1000, F32 * 16),  # logits; one number a row
    "attention": ({"batch": 1, "heads": 4, "kv_heads": 4, "tokens": 256, "width": 64}, F32 * 4 * 256, F32 * 4 * 256),  # one a query
    "dropout": ({"batch": 16, "width": 4096}, F32 * 16 * 4096, 0),  # the mask; a seed that is no tensor
    "residual_dropout": ({"batch": 16, "width": 4096}, F32 * 16 * 4096, 0),
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_bytes(name: str) -> None:
    size, stock, function = SAVED[name]
    assert saved_bytes(name, "stock", size) >= stock
    assert saved_bytes(name, "function", size) == function


@pytest.mark.parametrize(("name", "share"), [("swiglu", 0.5), ("geglu", 0.5), ("mlp", 0.5), ("add_rmsnorm", 0.01), ("lstm", 0.35)])
def test_share_of_stocks_saved_bytes(name: str, share: float) -> None:
    size = {dimension: values[0] for dimension, values in LAYERS[name].sweep.items()}
    assert saved_bytes(name, "function", size) <= share * saved_bytes(name, "stock", size)


def saved_bytes(name: str, variant: str, size: dict[str, int]) -> int:
    layer = LAYERS[name]
    weights = make.reference(layer, size, torch.float32, "cpu", 0)
    inputs = make.draw(layer.draws, size, torch.float32, "cpu", 0)
    cotangents = make.cotangents(make.probe(weights, inputs), 0)
    subject = make.subject(variant, make.variant_module(layer, variant, size, weights), inputs, cotangents)
    make.call(subject, "training").once()
    return weigh(subject, "cpu").saved_bytes
