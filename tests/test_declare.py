"""Every way of declaring a layer wrongly, and the sentence that says so."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from layerbench.bench import ANY, CPU, GPU, Draw, Layer, Variant, integers, randn
from layerbench.bench.declare.mistake import Mistake

STOCK = Variant(dict)


def layer(**changes: Any) -> Layer:
    parts = {
        "name": "softmax",
        "sweep": {"batch": (1, 8), "tokens": (16,), "width": (64, 128)},
        "inputs": (randn("batch", "width"),),
        "build": lambda module, size: module(size["width"]),
        "variants": {"stock": STOCK, "triton": Variant(dict, devices=GPU)},
    }
    return Layer(**(parts | changes))


def mistake(**changes: Any) -> str:
    with pytest.raises(Mistake) as caught:
        layer(**changes)
    return str(caught.value)


def test_a_layer_that_fits_together_keeps_what_it_was_given() -> None:
    made = layer(verify_at=({"batch": 3}, {"batch": 0, "width": 65}), absent={"compile": "nothing to fuse"})
    assert made.name == "softmax"
    assert list(made.variants) == ["stock", "triton"]
    assert made.verify_at == ({"batch": 3}, {"batch": 0, "width": 65})
    assert made.absent == {"compile": "nothing to fuse"}
    with pytest.raises(FrozenInstanceError):
        made.name = "other"  # type: ignore[misc]


def test_inputs_and_variants_are_plain_values() -> None:
    assert randn("batch", 1, 28) == Draw(("batch", 1, 28), "normal", None)
    assert integers("batch", below="classes") == Draw(("batch",), "integers", "classes")
    assert randn("batch", 3, "width").words() == ("batch", "width")
    assert integers("batch", below="classes").words() == ("batch", "classes")
    assert integers("batch", below=10).words() == ("batch",)
    assert Variant(dict) == Variant(dict, compile=False, devices="any")
    assert (ANY, CPU, GPU) == ("any", "cpu", "gpu")


FORM = "write lower-case letters, digits and underscores, a letter first and"


@pytest.mark.parametrize("name", ["Soft-max", "soft max", "_softmax", "softmax_", "2d", "", 7])
def test_a_name_that_cannot_stand_in_an_id(name: object) -> None:
    assert mistake(name=name) == f"layer name {name!r}: {FORM} a letter or a digit last"


def test_the_names_of_variants_and_dimensions() -> None:
    assert mistake(variants={"stock": STOCK, "My": STOCK}) == f"variant name 'My': {FORM} a letter or a digit last"
    assert mistake(sweep={"k3": (1,)}, inputs=()) == f"sweep dimension name 'k3': {FORM} a letter last"
    assert layer(name="conv2d", variants={"v1": STOCK}).name == "conv2d"


def test_the_sweep() -> None:
    assert mistake(sweep={}) == "layer 'softmax': the sweep is empty; write for example sweep={\"batch\": (1, 8, 64)}"


@pytest.mark.parametrize("values", [8, (), (0,), (-1, 8), (1.5,), (True,), "18", ("8",)])
def test_the_values_of_a_dimension(values: object) -> None:
    said = mistake(sweep={"batch": values, "width": (4,)})
    assert said == f"layer 'softmax': sweep['batch'] is {values!r}; write a tuple of positive whole numbers, as (1, 8, 64)"


def test_a_word_that_is_no_dimension() -> None:
    assert mistake(inputs=(randn("batch", "widht"),)) == "input dimension 'widht' is not in sweep; it has batch, tokens, width"
    assert mistake(inputs=(integers("batch", below="classes"),)) == "input dimension 'classes' is not in sweep; it has batch, tokens, width"
    assert mistake(verify_at=({"bach": 3},)) == "verify_at dimension 'bach' is not in sweep; it has batch, tokens, width"


def test_a_size_to_verify_at() -> None:
    assert mistake(verify_at=({"batch": -3},)) == "layer 'softmax': verify_at has batch=-3; write a whole number"
    assert mistake(verify_at=({"batch": 1.5},)) == "layer 'softmax': verify_at has batch=1.5; write a whole number"


def test_inputs_that_are_no_tuple() -> None:
    one = randn("batch", "width")
    assert mistake(inputs=one) == f'layer \'softmax\': inputs is {one!r}; write a tuple, as (randn("batch", "width"),)'


def test_the_variants() -> None:
    assert mistake(variants={}) == "layer 'softmax': no variants; write for example variants={\"stock\": Variant(nn.Linear)}"
    assert mistake(variants={"stock": dict}) == "layer 'softmax': variant 'stock' is <class 'dict'>; write Variant(YourModule)"
    tpu = {"stock": STOCK, "fast": Variant(dict, devices="tpu")}  # type: ignore[arg-type]
    assert mistake(variants=tpu) == "layer 'softmax': variant 'fast' has devices='tpu'; write ANY, CPU or GPU"
    again = {"stock": STOCK, "noise_floor": STOCK}
    assert mistake(variants=again) == "layer 'softmax': the variant name 'noise_floor' is taken; choose another"


def test_the_reference_must_run_everywhere() -> None:
    said = mistake(variants={"triton": Variant(dict, devices=GPU), "stock": STOCK})
    assert said == "layer 'softmax': the first variant 'triton' is the reference and must run on every device; remove devices="


@pytest.mark.parametrize("calls", [0, -1, 1.5, True, "4"])
def test_how_many_calls(calls: object) -> None:
    said = f"layer 'softmax': calls is {calls!r}; write how many calls are made before state is compared, as 4"
    assert mistake(calls=calls) == said
    assert (layer().calls, layer(calls=4).calls) == (1, 4)


def test_a_variant_both_there_and_absent() -> None:
    assert mistake(absent={"triton": "pointwise"}) == "layer 'softmax': 'triton' is both in variants and in absent; remove one"
