"""Steps of optimizers: the edges, errors and compilation of their kernels, and the state of their modules where it is moved and copied.
That all variants agree is for test_layers.

This process may have imported triton for real already, so each group of checks runs in a fresh one: this very file, as a script.
"""

import copy
import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from layerbench.layers.optimizers import TAKEN, AdamStep, OptimizerStep, RMSpropStep, SGDStep, TritonAdam

STEPS: dict[str, type[OptimizerStep]] = {"sgd": SGDStep, "adam": AdamStep, "rmsprop": RMSpropStep}
LENGTHS = (0, 1, 7, 1024, 0, 1025, 3000, 0)
ROOM = 3  # numbers before and after each tensor, which nobody may write to


@pytest.mark.usefixtures("forked_processes")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton")
@pytest.mark.parametrize(
    ("group", "interpret"), [("values", "1"), ("edges", "1"), ("errors", "1"), ("needs_a_gpu", "0"), ("sm_80", "0"), ("sm_90", "0")]
)
def test_kernels(group: str, interpret: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, group], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{group}: every check passed\n")


def rows(name: str, lengths: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[list[Tensor]]:
    """Weights, gradients and state of a new optimizer, as its function takes them; each lies between sevens."""
    generator = torch.Generator().manual_seed(0)

    def within(values: Tensor) -> Tensor:
        room = torch.full((values.numel() + 2 * ROOM,), 7.0, dtype=dtype)
        return room[ROOM : ROOM + values.numel()].copy_(values)

    weights, gradients = ([within(torch.randn(n, generator=generator)) for n in lengths] for _ in range(2))
    state = [[within(torch.zeros(n)) for n in lengths] for each in STEPS[name].state if each != "step"]
    return [weights, gradients, *state, *([[torch.zeros(()) for _ in lengths]] if "step" in STEPS[name].state else [])]


def by_torch(name: str, given: list[list[Tensor]], steps: int, **settings: object) -> list[list[Tensor]]:
    """What torch.optim makes of weights and state, in float64."""
    weights = [torch.nn.Parameter(each.double(), requires_grad=False) for each in given[0]]
    for weight, gradient in zip(weights, given[1], strict=True):
        weight.grad = gradient.double()
    optimizer = STEPS[name].optimizer_type(weights, **STEPS[name].settings | settings, foreach=False)
    for _ in range(steps):
        optimizer.step()
    state = [[optimizer.state[weight][each] for weight in weights] for each in sorted(STEPS[name].state, key="step".__eq__)]
    return [list(weights), *state]


def check(name: str, given: list[list[Tensor]], tolerance: float = 1e-6, **settings: object) -> None:
    """Three steps from zeros are torch's, and nothing else is written to."""
    from layerbench.kernels import optimizers

    expected = by_torch(name, given, 3, **settings)
    gradients = [each.clone() for each in given[1]]
    for _ in range(3):
        getattr(optimizers, name)(*given, **STEPS[name].settings | settings)
    for got, right in zip([given[0], *given[2:]], expected, strict=True):
        for mine, theirs in zip(got, right, strict=True):
            largest = float(theirs.abs().max()) if theirs.numel() else 0.0
            torch.testing.assert_close(mine.double(), theirs.double(), rtol=0, atol=tolerance * largest)
    assert all(torch.equal(now, then) for now, then in zip(given[1], gradients, strict=True))
    for tensor in (each for row in given for each in row if each.storage_offset() == ROOM):
        room = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        assert [*room[:ROOM].tolist(), *room[-ROOM:].tolist()] == [7.0] * 2 * ROOM, name


def values() -> None:
    for name in STEPS:
        check(name, rows(name, LENGTHS))
        check(name, rows(name, (1025,)))
        check(name, rows(name, (2048, 16)))
    check("sgd", rows("sgd", LENGTHS, torch.float16), 4e-3)  # a new second moment is no number of float16's
    check("adam", rows("adam", (7,)), betas=(0.0, 0.5))
    check("adam", rows("adam", (7,)), lr=1.0)  # steps so long that an error of 1 - beta^t shows


def edges() -> None:
    """Gradients that are not contiguous, nothing but empty tensors, and weights of several dimensions."""
    for name in STEPS:
        given = rows(name, (12, 5))
        given[1] = [torch.randn(24)[::2], torch.randn(1).expand(5)]
        check(name, given)
        nothing = rows(name, (0, 0))
        check(name, nothing)
        assert [each.item() for each in nothing[-1] if not each.dim()] == ([] if name == "sgd" else [3.0, 3.0])
        given = [[each.view(3, 4) if each.dim() else each for each in row] for row in rows(name, (12,))]
        given[1] = [torch.randn(4, 3).T]
        check(name, given)


def errors() -> None:
    from layerbench.kernels import optimizers

    def ones(*shape: int, **named: object) -> Tensor:
        return torch.ones(*shape, **named)

    x, step = [ones(3), ones(2)], [torch.tensor(0.0), torch.tensor(0.0)]
    wide, half, meta = [each.double() for each in x], [ones(3), ones(2).half()], [ones(3), ones(2, device="meta")]
    strided = [ones(3), ones(4)[::2]]
    calls = [
        ("sgd", ([], [], []), "params is empty; give at least one tensor"),
        ("sgd", (x, x[:1], x), "1 grads for 2 params; give one for each"),
        ("sgd", (x, x, [*x, ones(1)]), "3 momentum_buffers for 2 params; give one for each"),
        ("sgd", (wide, wide, wide), "params[0] is torch.float64; give float32, bfloat16 or float16"),
        ("sgd", (half, x, x), "params[1] is torch.float16 on cpu; params[0] is torch.float32 on cpu"),
        ("adam", (x, half, x, x, step), "grads[1] is torch.float16 on cpu; params[0] is torch.float32 on cpu"),
        ("adam", (x, x, x, meta, step), "exp_avg_sqs[1] is torch.float32 on meta; params[0] is torch.float32 on cpu"),
        ("adam", (x, x, x, x, step[:1]), "1 state_steps for 2 params; give one for each"),
        ("adam", (x, x, x, x, x), "state_steps[0] is (3,) torch.float32 on cpu; give one float32 number on cpu"),
        ("rmsprop", (x, x, x, x, [*step[:1], torch.tensor(0)]), "state_steps[1] is () torch.int64 on cpu; give one float32 number on cpu"),
        ("rmsprop", (x, [ones(3), ones(3)], x, x, step), "grads[1] is (3,); params[1] is (2,)"),
        ("rmsprop", (x, x, x, strided, step), "momentum_buffers[1] is not contiguous, and is to be written; keep it contiguous"),
    ]
    for name, arguments, words in calls:
        with pytest.raises(ValueError) as caught:
            getattr(optimizers, name)(*arguments, **STEPS[name].settings)
        assert str(caught.value) == f"{name}: {words}"


def needs_a_gpu() -> None:
    from layerbench.kernels import optimizers

    for name in STEPS:
        with pytest.raises(ValueError) as caught:
            getattr(optimizers, name)(*rows(name, (5,)), **STEPS[name].settings)
        assert str(caught.value) == f"{name}: params are on cpu; move them to a GPU, or set TRITON_INTERPRET=1 before importing triton"


def compile_all(capability: int) -> None:
    """Every kernel, for a GPU that is not there: loads as wide as a thread has, where all is aligned."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerbench.kernels import optimizers_tables as tables

    for kernel in (tables.sgd_kernel, tables.adam_kernel, tables.rmsprop_kernel):
        for element in ("fp32", "bf16"):
            for aligned in (True, False):
                constants = {"ALIGNED": aligned, "COLUMNS": 64, "BLOCK": tables.BLOCK}
                types = {"table_ptr": "*i64", "like_ptr": f"*{element}", "tensors": "i32"}
                signature = {name: "constexpr" if name in constants else types.get(name, "fp32") for name in kernel.arg_names}
                source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
                ptx = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4}).asm["ptx"]
                assert f".target sm_{capability}" in ptx, kernel
                assert ("ld.global.v4.b32" in ptx and "st.global.v4.b32" in ptx) == aligned, (kernel, element, aligned)


def linked(module: OptimizerStep) -> bool:
    """Every buffer is the very tensor that the optimizer has, and every weight the very parameter."""
    weights = module.optimizer.param_groups[0]["params"]
    pairs = [(module.optimizer.state[w][name], module.get_buffer(f"{name}_{i}")) for i, w in enumerate(weights) for name in module.state]
    return all(a is b for a, b in [*pairs, *zip(weights, module.weights, strict=True)])


@pytest.mark.parametrize("kind", STEPS.values())
def test_buffers_are_the_optimizers_state_through_casts_copies_and_loads(kind: type[OptimizerStep]) -> None:
    module, gradients = kind(2, 5, foreach=False), torch.randn(2, 5)
    assert linked(module)
    assert linked(copy.deepcopy(module))
    other = kind(2, 5, foreach=False)
    other.load_state_dict(module.state_dict())
    assert linked(other)
    assert linked(other.double())
    weights = other(gradients.double())
    assert all(torch.equal(weight, kept) for weight, kept in zip(weights, other.weights, strict=True))
    copied = copy.deepcopy(other)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    copied(gradients.double())
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())
    assert [name for name, tensor in copied.state_dict().items() if torch.equal(tensor, before[name])] == []


def test_counters_count_past_what_bfloat16_can() -> None:
    module = AdamStep(2, 3, foreach=True).bfloat16()
    assert module.exp_avg_0.dtype == torch.bfloat16
    for _ in range(300):
        module(torch.zeros(2, 3, dtype=torch.bfloat16))
    assert module.step_1.item() == TAKEN + 300
    assert module.step_1.dtype == torch.float32


def test_counters_are_where_they_are_read() -> None:
    kinds = [AdamStep(1, 3, foreach=False), AdamStep(1, 3, foreach=True), AdamStep(1, 3, fused=True), TritonAdam(1, 3)]
    assert [module.to("meta").step_0.device.type for module in kinds] == ["cpu", "cpu", "meta", "meta"]


if __name__ == "__main__":
    group = sys.argv[1]
    if group.startswith("sm_"):
        compile_all(int(group.removeprefix("sm_")))
    else:
        globals()[group]()
    print(f"{group}: every check passed")
