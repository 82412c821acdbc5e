"""Which points a run visits and in what order, the -k grammar, and the sentences for what it cannot select."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import structs

from layerbench.bench.data.record import Device, LayerFacts, VariantFacts
from layerbench.bench.declare.mistake import Mistake
from layerbench.bench.plan.planning import Selection, plan, sizes

CPU = Device("cpu", "a processor", 8_000_000_000, ("float32", "bfloat16"))
CUDA = Device("cuda", "a card", 80_000_000_000, ("float32", "bfloat16", "float16"))


def facts(name: str, sweep: Mapping[str, tuple[int, ...]], *variants: str) -> LayerFacts:
    made = tuple(VariantFacts(each, False, "any") for each in variants or ("stock", "triton", "compile"))
    return LayerFacts(name, "", f"layers/{name}.py", 1, dict(sweep), made, {})


SOFTMAX = facts("softmax", {"batch": (8, 80), "width": (64,)})
RMSNORM = facts("rmsnorm", {"batch": (8,), "width": (64, 128)}, "stock", "function")


def ids(*layers: LayerFacts, present: tuple[Device, ...] = (CPU,), **chosen: Any) -> list[str]:
    tasks = plan(layers, present, Selection(**chosen))
    return [f"{task.point.id} {','.join(task.variants)}" for task in tasks]


def refusal(present: tuple[Device, ...] = (CPU,), **chosen: Any) -> str:
    with pytest.raises(Mistake) as caught:
        plan((SOFTMAX, RMSNORM), present, Selection(**chosen))
    return str(caught.value)


def test_points_that_share_a_cell_follow_one_another_and_the_first_dimension_is_fastest() -> None:
    layer = facts("linear", {"batch": (1, 8), "width": (64, 128)}, "stock")
    assert ids(layer) == [
        "linear-forward-cpu-float32-batch1-width64 stock",
        "linear-backward-cpu-float32-batch1-width64 stock",
        "linear-forward-cpu-float32-batch8-width64 stock",
        "linear-backward-cpu-float32-batch8-width64 stock",
        "linear-forward-cpu-float32-batch1-width128 stock",
        "linear-backward-cpu-float32-batch1-width128 stock",
        "linear-forward-cpu-float32-batch8-width128 stock",
        "linear-backward-cpu-float32-batch8-width128 stock",
    ]


def test_layers_then_dtypes_then_devices() -> None:
    layer, other = facts("a", {"n": (1,)}, "stock"), facts("b", {"n": (1,)}, "stock")
    chosen = ids(layer, other, present=(CPU, CUDA), dtypes=("bfloat16", "float32"), steps=("training",))
    assert chosen == [
        *("a-training-cpu-bfloat16-n1 stock", "a-training-cuda-bfloat16-n1 stock"),
        *("a-training-cpu-float32-n1 stock", "a-training-cuda-float32-n1 stock"),
        *("b-training-cpu-bfloat16-n1 stock", "b-training-cuda-bfloat16-n1 stock"),
        *("b-training-cpu-float32-n1 stock", "b-training-cuda-float32-n1 stock"),
    ]


LARGE = structs.replace(facts("norm", {"batch": (1, 8), "width": (64,)}, "stock"), gpu_sweep={"batch": (8, 4096)})


def test_a_gpu_visits_sizes_of_its_own_and_a_dimension_without_them_keeps_the_sweeps() -> None:
    assert ids(LARGE, present=(CPU, CUDA), steps=("forward",), dtypes=("float32",)) == [
        *("norm-forward-cpu-float32-batch1-width64 stock", "norm-forward-cpu-float32-batch8-width64 stock"),
        *("norm-forward-cuda-float32-batch8-width64 stock", "norm-forward-cuda-float32-batch4096-width64 stock"),
    ]
    set_ = ids(LARGE, present=(CPU, CUDA), steps=("forward",), dtypes=("float32",), sizes={"batch": (3,)})
    assert set_ == ["norm-forward-cpu-float32-batch3-width64 stock", "norm-forward-cuda-float32-batch3-width64 stock"]
    xpu = structs.replace(CUDA, kind="xpu")
    assert [task.point.size["batch"] for task in plan((LARGE,), (xpu,), Selection(steps=("forward",), dtypes=("float32",)))] == [8, 4096]


def test_every_device_has_its_own_default_dtypes() -> None:
    def dtypes(*present: Device, **chosen: Any) -> list[tuple[str, str]]:
        tasks = plan((facts("a", {"n": (1,)}, "stock"),), present, Selection(steps=("forward",), **chosen))
        return [(task.point.device, task.point.dtype) for task in tasks]

    old = structs.replace(CUDA, dtypes=("float32", "float16"))
    assert dtypes(CPU) == [("cpu", "float32")]
    assert dtypes(CPU, CUDA) == [("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")]
    assert dtypes(CPU, CUDA, devices=("gpu",)) == [("cuda", "float32"), ("cuda", "bfloat16")]
    assert dtypes(CPU, old) == [("cpu", "float32"), ("cuda", "float32")]
    assert dtypes(CPU, CUDA, dtypes=("bfloat16",)) == [("cpu", "bfloat16"), ("cuda", "bfloat16")]


def test_an_override_replaces_the_sweep_and_a_size_given_twice_is_visited_once() -> None:
    assert sizes(RMSNORM, "cpu", {"batch": (3, 3, 5)}) == [
        *({"batch": 3, "width": 64}, {"batch": 5, "width": 64}),
        *({"batch": 3, "width": 128}, {"batch": 5, "width": 128}),
    ]
    layer = facts("gelu", {"n": (4, 4)}, "stock")
    assert ids(layer, steps=("forward",)) == ["gelu-forward-cpu-float32-n4 stock"]
    both = ids(SOFTMAX, facts("gelu", {"n": (4,)}, "stock"), steps=("forward",), sizes={"batch": (2,)})
    assert both == ["softmax-forward-cpu-float32-batch2-width64 stock,triton,compile", "gelu-forward-cpu-float32-n4 stock"]


def test_an_update_is_a_step_for_each_optimizer() -> None:
    layer = facts("linear", {"n": (4,)}, "stock")
    assert ids(layer, steps=("training", "update")) == ["linear-training-cpu-float32-n4 stock", "linear-update_sgd-cpu-float32-n4 stock"]
    both = ids(layer, steps=("update",), optimizers=("adam", "sgd", "adam"))
    assert both == ["linear-update_adam-cpu-float32-n4 stock", "linear-update_sgd-cpu-float32-n4 stock"]
    assert ids(layer, steps=("update_adam",)) == ["linear-update_adam-cpu-float32-n4 stock"]
    assert refusal(expression="adam") == "-k: no point has the optimizer adam; add  --step update --optimizer adam"


def test_a_step_given_twice_is_measured_once() -> None:
    assert len(ids(SOFTMAX, steps=("forward", "forward"))) == 2


POINT8, POINT80 = "softmax-forward-cpu-float32-batch8-width64", "softmax-forward-cpu-float32-batch80-width64"


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("", [f"{POINT8} stock,triton,compile", f"{POINT80} stock,triton,compile"]),
        ("  ", [f"{POINT8} stock,triton,compile", f"{POINT80} stock,triton,compile"]),
        ("triton", [f"{POINT8} stock,triton", f"{POINT80} stock,triton"]),
        ("stock", [f"{POINT8} stock", f"{POINT80} stock"]),
        ("batch8", [f"{POINT8} stock,triton,compile"]),
        ("batch80", [f"{POINT80} stock,triton,compile"]),
        ("batch", [f"{POINT8} stock,triton,compile", f"{POINT80} stock,triton,compile"]),
        ("not triton", [f"{POINT8} stock,compile", f"{POINT80} stock,compile"]),
        ("not not triton", [f"{POINT8} stock,triton", f"{POINT80} stock,triton"]),
        ("triton and batch8", [f"{POINT8} stock,triton"]),
        ("triton and batch8 or compile and batch80", [f"{POINT8} stock,triton", f"{POINT80} stock,compile"]),
        ("(triton or compile) and not batch80", [f"{POINT8} stock,triton,compile"]),
        ("not(triton or stock)and batch8", [f"{POINT8} stock,compile"]),
        (POINT80, [f"{POINT80} stock,triton,compile"]),
        (f"^{POINT8}", [f"{POINT8} stock,triton,compile"]),
        ("^softmax and batch80", [f"{POINT80} stock,triton,compile"]),
    ],
)
def test_an_expression_selects_points_and_variants_and_the_reference_comes_along(expression: str, chosen: list[str]) -> None:
    assert ids(SOFTMAX, steps=("forward",), expression=expression) == chosen


def test_a_caret_finds_a_word_at_the_beginning_of_an_id_alone() -> None:
    layers = [facts(name, {"n": (4,)}, "stock") for name in ("add_rmsnorm", "rmsnorm")]

    def found(expression: str) -> list[str]:
        chosen = plan(layers, (CPU,), Selection(expression, steps=("forward",)))
        return [task.point.layer for task in chosen]

    assert (found("rmsnorm"), found("^rmsnorm"), found("not ^rmsnorm")) == (["add_rmsnorm", "rmsnorm"], ["rmsnorm"], ["add_rmsnorm"])
    assert found("^rmsnorm-forward-cpu-float32-n4") == ["rmsnorm"]


def test_float16_is_not_found_in_bfloat16() -> None:
    layer = facts("gelu", {"n": (4,)}, "stock")
    both = {"present": (CUDA,), "dtypes": ("bfloat16", "float16"), "steps": ("forward",)}
    assert ids(layer, expression="float16", **both) == ["gelu-forward-cuda-float16-n4 stock"]
    assert ids(layer, expression="not float16", **both) == ["gelu-forward-cuda-bfloat16-n4 stock"]


NAMES = "layers: softmax, rmsnorm; variants: stock, triton, compile, function"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("softmx", f"-k: nothing is called 'softmx' (did you mean 'softmax'?); {NAMES}"),
        ("triton and wdith64", f"-k: nothing is called 'wdith64'; {NAMES}"),
        ("not copmile", f"-k: nothing is called 'copmile' (did you mean 'compile'?); {NAMES}"),
        ("bfloat16", "-k: no point has the dtype bfloat16; add  --dtype bfloat16"),
        ("softmax and training", "-k: no point has the step training; add  --step training"),
        ("(softmax", "-k '(softmax': a parenthesis is not closed"),
        ("((softmax) and stock", "-k '((softmax) and stock': a parenthesis is not closed"),
        ("softmax and", "-k 'softmax and': a word is missing before the end; write for example  -k 'rmsnorm and not compile'"),
        ("()", "-k '()': a word is missing before ); write for example  -k 'rmsnorm and not compile'"),
        ("or softmax", "-k 'or softmax': a word is missing before or; write for example  -k 'rmsnorm and not compile'"),
        ("softmax triton", "-k 'softmax triton': an `and` or `or` is missing before 'triton'"),
        ("softmax and rmsnorm", "-k 'softmax and rmsnorm' matches no point; `layerbench run --dry-run` lists them"),
        ("not batch", "-k 'not batch' matches no point; `layerbench run --dry-run` lists them"),
    ],
)
def test_an_expression_that_does_not_read_or_selects_nothing(expression: str, said: str) -> None:
    assert refusal(expression=expression) == said


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [((), ["cpu", "cuda"]), (("gpu",), ["cuda"]), (("cuda", "gpu", "cuda"), ["cuda"]), (("cuda", "cpu"), ["cuda", "cpu"])],
)
def test_devices(wanted: tuple[str, ...], kinds: list[str]) -> None:
    chosen = Selection(devices=wanted, steps=("forward",), dtypes=("float32",), sizes={"width": (64,)})
    tasks = plan((RMSNORM,), (CPU, CUDA), chosen)
    assert [task.point.device for task in tasks] == kinds


def test_what_the_machine_or_the_suite_does_not_have() -> None:
    assert refusal(dtypes=("float16",)) == "--dtype float16: cpu does not compute in it; it has float32, bfloat16"
    assert refusal(devices=("gpu",)) == (
        "--device gpu: torch finds no GPU on this machine, only cpu; type  layerbench run --device cpu  (or nox -s bench-cpu)"
    )
    assert refusal(present=(CPU, CUDA), devices=("xpu",)) == "--device xpu: not on this machine; it has cpu, cuda"
    assert refusal(dtypes=("fp32",)) == "--dtype fp32: unknown; choose from float32, bfloat16, float16"
    assert refusal(steps=("serving",)) == "--step serving: unknown; choose from forward, backward, training, update, inference"
    assert refusal(sizes={"widht": (4,)}) == (
        "--set widht=...: no layer of the suite has that dimension (did you mean 'width'?); they have batch, width"
    )
    for sizes_given in ((8, 0), ()):
        assert refusal(sizes={"batch": sizes_given}) == "--set batch=...: sizes are whole numbers from 1 up, as batch=1,8,64"
