"""The Triton kernels of the dense and activation layers: values and gradients where the layers' own sizes do not lead, errors, compilation.

Like tests/test_kernels.py, each group of checks runs in a fresh process: this very file, as a script.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
import upstream
from torch import Tensor

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"),
    pytest.mark.usefixtures("forked_processes"),
]


@pytest.mark.parametrize(("group", "interpret"), [pytest.param("interpreted", "1", marks=upstream.needs_interpreter), ("compiled", "0")])
def test_kernels(group: str, interpret: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, group], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == f"{group}: every check passed\n"


def lora(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return F.linear(x, weight, bias) + scale * F.linear(F.linear(x, a), b)


def cases() -> list[tuple]:
    """(kernel function, the same in torch, shapes of the tensors, None where one is left out, other arguments)."""
    from layerbench.kernels.activations import gated, gelu, relu, silu
    from layerbench.kernels.linear_gelu import linear_gelu
    from layerbench.kernels.lora import lora_linear
    from layerbench.kernels.softmax import log_softmax

    gates = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu, "gelu_tanh": lambda a: F.gelu(a, approximate="tanh")}
    return [
        (relu, F.relu, [()], {}),
        (silu, F.silu, [(3, 1025)], {}),
        (gelu, F.gelu, [(2, 3, 5)], {}),
        (gelu, F.gelu, [(2, 3, 5)], {"approximate": "tanh"}),
        *((gated, lambda a, b, activation: gates[activation](a) * b, [(3, 700), (3, 700)], {"activation": kind}) for kind in gates),
        (log_softmax, F.log_softmax, [(3, 5, 4)], {"dim": 1}),
        (log_softmax, F.log_softmax, [()], {"dim": 0}),
        (log_softmax, F.log_softmax, [(2, 16_500)], {"dim": -1}),
        (linear_gelu, lambda *them: F.gelu(F.linear(*them)), [(5,), (4, 5), (4,)], {}),
        (linear_gelu, lambda *them: F.gelu(F.linear(*them)), [(2, 65, 3), (67, 3), None], {}),  # two partial sums, two blocks of columns
        (lora_linear, lora, [(5,), (4, 5), (4,), (2, 5), (4, 2)], {"scale": 0.7}),
        (lora_linear, lora, [(2, 35, 3), (67, 3), None, (1, 3), (67, 1)], {"scale": 2.0}),
    ]


def turned(shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Normal numbers in a view that is not contiguous."""
    return torch.randn(shape[::-1], generator=generator).permute(tuple(reversed(range(len(shape)))))


def run(function, tensors: list[Tensor | None], others: dict) -> list[Tensor]:
    """Output and gradients, the cotangent a view with strides of its own."""
    leaves = [tensor if tensor is None else tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*leaves, **others)
    cotangent = turned(output.shape, torch.Generator().manual_seed(7))
    return [output.detach(), *torch.autograd.grad(output, [leaf for leaf in leaves if leaf is not None], cotangent.to(output.dtype))]


def values() -> None:
    for function, stock, shapes, others in cases():
        tensors = [shape if shape is None else turned(shape) for shape in shapes]
        reference = run(stock, [tensor if tensor is None else tensor.double() for tensor in tensors], others)
        for got, expected in zip(run(function, tensors, others), reference, strict=True):
            assert got.shape == expected.shape, (function, got.shape)
            torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def edges() -> None:
    """Infinities, NaN and zeros; what is kept for backward, and gradients not asked for."""
    from layerbench.kernels import linear_gelu, matmul
    from layerbench.kernels.activations import gelu, relu, silu
    from layerbench.kernels.lora import lora_linear
    from layerbench.kernels.softmax import log_softmax

    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 100.0, -100.0, 1e-30])
    for function, stock, others in ((relu, F.relu, {}), (silu, F.silu, {}), (gelu, F.gelu, {}), (gelu, F.gelu, {"approximate": "tanh"})):
        for got, expected in zip(run(function, [odd], others), run(stock, [odd.double()], others), strict=True):
            torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6, equal_nan=True)
    x = odd.clone().requires_grad_()
    (grad,) = torch.autograd.grad(relu(x), x, torch.full_like(x, float("inf")))
    assert torch.equal(grad[1:], torch.tensor([float("inf"), 0, 0, 0, float("inf"), 0, float("inf")])), grad
    for width in (50, 16_500):
        x = torch.randn(3, width)
        x[0, :-1] = x[1] = float("-inf")
        torch.testing.assert_close(log_softmax(x, -1), torch.log_softmax(x, -1), equal_nan=True)

    x, weight, bias = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5)
    for keep in (False, True):
        y, z = linear_gelu._linear_gelu(x, weight, bias, keep)
        torch.testing.assert_close(y, F.gelu(F.linear(x, weight, bias)))
        torch.testing.assert_close(z, F.linear(x, weight, bias)[: 3 if keep else 0])
    with torch.no_grad():
        assert not linear_gelu.linear_gelu(x, weight.requires_grad_(), bias).requires_grad
    bias.requires_grad_()
    for index in range(3):
        (alone,) = torch.autograd.grad(linear_gelu.linear_gelu(x, weight.detach(), bias)[:, index].sum(), bias)
        torch.testing.assert_close(alone, torch.autograd.grad(F.gelu(F.linear(x, weight.detach(), bias))[:, index].sum(), bias)[0])
    empty = [torch.randn(2, 3, 0), torch.randn(5, 0), torch.randn(5)]  # no feature at all: what is left is the bias
    for function, stock in ((linear_gelu.linear_gelu, lambda *them: F.gelu(F.linear(*them))), (matmul.linear, F.linear)):
        for got, expected in zip(run(function, empty, {}), run(stock, empty, {}), strict=True):
            torch.testing.assert_close(got, expected)
    adapted = [*empty, torch.randn(2, 0), torch.randn(5, 2)]
    for got, expected in zip(run(lora_linear, adapted, {"scale": 2.0}), run(lora, adapted, {"scale": 2.0}), strict=True):
        torch.testing.assert_close(got, expected)
    a, b = torch.randn(2, 4, requires_grad=True), torch.randn(5, 2)
    got = torch.autograd.grad(lora_linear(x, weight.detach(), bias.detach(), a, b, 0.5).sum(), a)
    torch.testing.assert_close(got, torch.autograd.grad(lora(x, weight.detach(), bias.detach(), a, b, 0.5).sum(), a))


def errors() -> None:
    from layerbench.kernels.activations import gated, gelu, relu, silu
    from layerbench.kernels.linear_gelu import linear_gelu
    from layerbench.kernels.lora import lora_linear
    from layerbench.kernels.softmax import log_softmax

    ones = torch.ones
    x, w, meta = ones(2, 3), ones(4, 3), ones(4, 3, device="meta")
    calls = [
        (relu, (x.double(),), "dtypes are [torch.float64]; give one of float32, bfloat16, float16"),
        (silu, (x.int(),), "dtypes are [torch.int32]"),
        (gated, (x, w, "silu"), "shapes are [(2, 3), (4, 3)]; give tensors of one shape"),
        (gated, (x, x.half(), "silu"), "dtypes are [torch.float32, torch.float16]"),
        (gated, (w, meta, "silu"), "devices are ['cpu', 'meta']; move all to one"),
        (gated, (x, x, "swish"), "activation is 'swish'; give one of relu, silu, gelu, gelu_tanh"),
        (log_softmax, (x.double(), -1), "input is torch.float64; give float32, bfloat16 or float16"),
        (linear_gelu, (x, ones(4, 5)), "shapes are [(2, 3), (4, 5)]; give input (..., in), weight (out, in)"),
        (linear_gelu, (x, w, ones(3)), "shapes are [(2, 3), (4, 3), (3,)]"),
        (linear_gelu, (x, w.half()), "dtypes are [torch.float32, torch.float16]"),
        (linear_gelu, (x, meta), "devices are ['cpu', 'meta']; move all to one"),
        (lora_linear, (x, w, None, ones(2, 5), ones(4, 2), 1.0), "shapes are [(2, 3), (4, 3), (2, 5), (4, 2)]; give input (..., in)"),
        (lora_linear, (x, w, None, ones(2, 3), ones(4, 3), 1.0), "shapes are [(2, 3), (4, 3), (2, 3), (4, 3)]"),
        (lora_linear, (x, w, ones(3), ones(2, 3), ones(4, 2), 1.0), "shapes are [(2, 3), (4, 3), (3,), (2, 3), (4, 2)]"),
        (lora_linear, (x, w, None, ones(2, 3).half(), ones(4, 2), 1.0), "dtypes are [torch.float32, torch.float32, torch.float16"),
        (lora_linear, (x, meta, None, ones(2, 3), ones(4, 2), 1.0), "devices are ['cpu', 'meta', 'cpu', 'cpu']"),
    ]
    for function, arguments, words in calls:
        with pytest.raises(ValueError) as caught:
            function(*arguments)
        assert str(caught.value).startswith(f"{function.__name__}: ")
        assert words in str(caught.value), caught.value
    with pytest.raises(ValueError, match='gelu: approximate is \'sigmoid\'; give "none" or "tanh"'):
        gelu(x, approximate="sigmoid")
    with pytest.raises(IndexError):
        log_softmax(x, 2)


def interpreted() -> None:
    values()
    edges()
    errors()


def compiled() -> None:
    """Every kernel compiles for a GPU that is not there, and tensors on the CPU are refused in words."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerbench.kernels import activations, linear_gelu, lora, matmul

    for function, _, shapes, others in cases():
        with pytest.raises(ValueError, match=r"on cpu; move (it|them) to a GPU, or set TRITON_INTERPRET=1"):
            function(*(shape if shape is None else torch.ones(shape) for shape in shapes), **others)
    block = {"BLOCK": activations.BLOCK, "num_warps": 4}
    tile = matmul.tile(256, 512, torch.float16) | {"a_stride_k": 1, "b_stride_k": 1, "HAS_BIAS": True}
    low_rank = tile | {"c_stride_rank": 1, "d_stride_rank": 1, "HAS_BASE": True}
    kernels = (activations._forward_kernel, activations._backward_kernel, activations._gated_kernel, activations._gated_backward_kernel)
    launches = [
        *((kernel, block | {"KIND": kind}) for kernel in kernels for kind in activations.KINDS),
        (linear_gelu._product_kernel, tile | {"KEEP_Z": True}),
        (linear_gelu._product_kernel, tile | {"KEEP_Z": False, "z_ptr": None, "HAS_BIAS": False, "bias_ptr": None}),
        (linear_gelu._slope_kernel, {"ROWS": linear_gelu.SUM_ROWS, "BLOCK_ROWS": 32, "BLOCK_COLUMNS": 64, "grad_stride_column": 1}),
        (lora._product_kernel, low_rank),
        (lora._product_kernel, low_rank | {"HAS_BASE": False, "a_ptr": None, "b_ptr": None, "HAS_BIAS": False, "bias_ptr": None}),
    ]
    types = {"partial_ptr": "*fp32", "scale": "fp32"}
    for kernel, arguments in launches:
        constants = {name: value for name, value in arguments.items() if name in kernel.arg_names}
        options = {name: value for name, value in arguments.items() if name not in kernel.arg_names}
        rest = {name: types.get(name, "*fp16" if name.endswith("_ptr") else "i32") for name in kernel.arg_names if name not in constants}
        signature = {name: rest.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
        ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
        assert ".target sm_90" in ptx, kernel
        if "BLOCK_K" in arguments:
            assert "mma" in ptx, f"{kernel} multiplies float16 without tensor cores"


if __name__ == "__main__":
    torch.manual_seed(0)
    globals()[sys.argv[1]]()
    print(f"{sys.argv[1]}: every check passed")
