"""The Triton kernels of kernels/: values and gradients under Triton's interpreter, the contract of their ops, compilation for GPUs.

This process may have imported triton for real already, so each group of checks runs in a fresh one: this very file, as a script.
"""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
import upstream

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"),
    pytest.mark.usefixtures("forked_processes"),
]


def in_a_fresh_process(group: str, interpret: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, group], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{group}: every check passed\n")


@upstream.needs_interpreter
@pytest.mark.parametrize("group", ["values", "edges", "ops", "errors"])
def test_interpreted(group: str) -> None:
    in_a_fresh_process(group, "1")


@pytest.mark.parametrize("group", ["needs_a_gpu", "sm_80", "sm_90"])
def test_compiled(group: str) -> None:
    in_a_fresh_process(group, "0")


def functions() -> list:
    from layerbench.kernels import conv2d, matmul, maxpool2d, rmsnorm, softmax

    return [matmul.linear, rmsnorm.rms_norm, softmax.softmax, conv2d.conv2d, maxpool2d.max_pool2d]


def cases() -> list[tuple]:
    """(kernel function, torch's, shapes of the tensors, other arguments) at sizes that cross and miss the edges of blocks."""
    import torch.nn.functional as F  # noqa: N812 - its usual name

    linear, rms_norm, softmax, conv2d, max_pool2d = functions()
    return [
        (linear, F.linear, [(3, 70), (45, 70), (45,)], {}),
        (linear, F.linear, [(67, 37), (130, 37), (130,)], {}),
        (linear, F.linear, [(2, 3, 5), (4, 5)], {}),
        (linear, F.linear, [(5,), (4, 5), (4,)], {}),
        (linear, F.linear, [(1030, 3), (65, 3), (65,)], {}),  # two partial sums of the bias gradient
        (rms_norm, F.rms_norm, [(3, 23, 70), (70,)], {"normalized_shape": (70,), "eps": 1e-6}),
        (rms_norm, F.rms_norm, [(300, 1100), (1100,)], {"normalized_shape": (1100,)}),  # two rows to a program of backward
        (rms_norm, F.rms_norm, [(5, 4, 6)], {"normalized_shape": (4, 6)}),
        (softmax, F.softmax, [(37, 70)], {"dim": -1}),
        (softmax, F.softmax, [(3, 5, 4)], {"dim": 1}),
        (softmax, F.softmax, [(2, 16_500)], {"dim": 1}),  # rows longer than one block
        (conv2d, F.conv2d, [(3, 1, 12, 13), (10, 1, 5, 5), (10,)], {}),
        (conv2d, F.conv2d, [(2, 5, 7, 6), (3, 5, 3, 2)], {"padding": 1}),
        (conv2d, F.conv2d, [(5, 1, 16, 16), (66, 1, 1, 1), (66,)], {}),  # two shares of the positions, two blocks of outputs
        (max_pool2d, F.max_pool2d, [(2, 3, 9, 11)], {"kernel_size": 2}),
        (max_pool2d, F.max_pool2d, [(1, 1, 100, 101)], {"kernel_size": 3}),  # several blocks to a plane
        (max_pool2d, relu_pool, [(2, 3, 9, 11)], {"kernel_size": 2, "relu": True}),
    ]


def relu_pool(x, kernel_size: int, relu: bool):
    return F.relu(F.max_pool2d(x, kernel_size))


def run(function, tensors, others) -> list:
    """Output and gradients, the cotangent drawn from the same seed for every type."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    named = dict(zip(["input", "weight", "bias"], leaves, strict=False)) | others
    output = function(named.pop("input"), **named)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).half().to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, cotangent)]


def values() -> None:
    for function, stock, shapes, others in cases():
        for dtype, exact in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
            torch.manual_seed(len(shapes[0]))
            tensors = [torch.randn(shape).half().to(dtype) for shape in shapes]
            reference = run(stock, [tensor.double() for tensor in tensors], others)
            for got, expected in zip(run(function, tensors, others), reference, strict=True):
                assert got.dtype == dtype, (function, got.dtype)
                assert got.shape == expected.shape, (function, got.shape)
                error = (got.double() - expected).abs().max() / expected.abs().max()
                assert error < exact, (function.__name__, shapes, dtype, error)


def edges() -> None:
    """Empty batches, views, gradients not asked for, infinities, ties and NaN."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name

    linear, _, softmax, _, max_pool2d = functions()
    small = [case for case in cases() if math.prod(case[2][0]) < 5000]
    for function, stock, shapes, others in small:
        if len(shapes[0]) > 1:
            tensors = [torch.randn(0, *shapes[0][1:]), *(torch.randn(shape) for shape in shapes[1:])]
            for got, expected in zip(run(function, tensors, others), run(stock, tensors, others), strict=True):
                assert torch.equal(got, expected), (function, shapes)
        tensors = [torch.randn(shape[::-1]).permute(*reversed(range(len(shape)))) for shape in shapes]
        for got, expected in zip(run(function, tensors, others), run(stock, tensors, others), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    x, weight, bias = torch.randn(3, 4), torch.randn(2, 4), torch.randn(2, requires_grad=True)
    (grad,) = torch.autograd.grad(linear(x, weight, bias).sum(), bias)  # sum's gradient is a broadcast view
    assert torch.equal(grad, torch.full((2,), 3.0))
    x, weight = (tensor.requires_grad_() for tensor in (x, weight))
    for order in (linear, F.linear):
        (first,) = torch.autograd.grad(order(x, weight, bias).square().sum(), x, create_graph=True)
        second = torch.autograd.grad(first.square().sum(), (x, weight, bias))
        expected = second if order is linear else expected
    for got, wanted in zip(expected, second, strict=True):
        torch.testing.assert_close(got, wanted)
    for width in (50, 16_500):
        x = torch.randn(3, width)
        x[0, :-1] = x[1] = float("-inf")
        torch.testing.assert_close(softmax(x, -1), torch.softmax(x, -1), equal_nan=True)
    x = torch.tensor([[1.0, 1.0, -1.0, -2.0], [1.0, 0.0, -3.0, -1.0], [float("nan"), 2.0, 0.0, 0.0], [3.0, 5.0, 0.0, 0.0]])[None, None]
    for got, expected in zip(run(max_pool2d, [x], {"kernel_size": 2}), run(F.max_pool2d, [x], {"kernel_size": 2}), strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True)
    relu = {"kernel_size": 2, "relu": True}
    for got, expected in zip(run(max_pool2d, [x], relu), run(relu_pool, [x], relu), strict=True):
        torch.testing.assert_close(got, expected, equal_nan=True)


def ops() -> None:
    import torch

    from layerbench.kernels import conv2d, matmul, maxpool2d, rmsnorm, softmax

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, requires_grad=True)

    x, y = torch.randn(2, 3, 6, 6), torch.randn(2, 4, 4, 5)
    winner = torch.randint(5, (2, 3, 3, 3), dtype=torch.uint8)
    calls = [
        (matmul.matmul, (draw(5, 7), draw(7, 3), draw(3))),
        (matmul.matmul, (draw(5, 7), draw(3, 7).T, None)),
        (matmul._column_sum, (draw(5, 7),)),
        (rmsnorm._rms_norm, (draw(5, 7), None, draw(7), 7, 1e-6)),
        (rmsnorm._rms_norm, (draw(5, 7), draw(5, 7), None, 7, 1e-6)),
        (rmsnorm._rms_norm_backward, (torch.randn(5, 7), None, torch.randn(5, 7), torch.randn(7), torch.rand(5), 7)),
        (softmax._softmax, (draw(5, 7), False)),
        (softmax._softmax, (draw(5, 7), True)),
        (softmax._softmax_backward, (torch.randn(5, 7), torch.rand(5, 7), False)),
        (conv2d._conv2d, (draw(2, 3, 6, 6), draw(4, 3, 3, 2), draw(4), 1, 0)),
        (conv2d._conv_transpose2d, (draw(2, 4, 4, 5), draw(4, 3, 3, 2), draw(3), 1, 0, 6, 6)),
        (conv2d._grad_weight, (y, x, 3, 2, 1, 0)),
        (maxpool2d._max_pool2d, (draw(2, 3, 6, 7), 2, True)),
        (maxpool2d._max_pool2d_backward, (torch.randn(2, 3, 3, 3), winner, 2, 6, 7)),
    ]
    for op, arguments in calls:
        assert op._namespace == "layerbench_kernels"
        torch.library.opcheck(op, arguments)


def errors() -> None:
    import torch

    linear, rms_norm, softmax, conv2d, max_pool2d = functions()
    ones, meta = torch.ones, torch.ones(3, device="meta")
    x, image = ones(2, 3), ones(2, 3, 5, 5)
    calls = [
        (linear, (x, ones(4, 5)), "input (2, 3) does not fit weight (4, 5)"),
        (linear, (x, ones(4, 3), ones(3)), "bias is (3,); weight (4, 3) needs (4,)"),
        (linear, (x, ones(4, 3).half()), "dtypes are [torch.float32, torch.float16]; give one of"),
        (linear, (x.double(), ones(4, 3).double()), "give one of float32, bfloat16, float16"),
        (linear, (x, ones(4, 3, device="meta")), "devices are ['cpu', 'meta']; move all to one"),
        (rms_norm, (x, (2,)), "input (2, 3) must end in normalized_shape (2,)"),
        (rms_norm, (x, (3,), ones(2)), "weight is (2,); normalized_shape is (3,)"),
        (rms_norm, (x, (3,), ones(3).half()), "dtypes are [torch.float32, torch.float16]"),
        (rms_norm, (x, (3,), meta), "devices are ['cpu', 'meta']; move all to one"),
        (rms_norm, (ones(1, 16_385), (16_385,)), "has 16385 numbers; this kernel takes 1 to 16384"),
        (softmax, (x.double(), -1), "input is torch.float64; give float32, bfloat16 or float16"),
        (conv2d, (image, ones(4, 2, 3, 3)), "input (2, 3, 5, 5) does not fit weight (4, 2, 3, 3)"),
        (conv2d, (image, ones(4, 3, 3, 3), ones(3)), "bias is (3,); weight (4, 3, 3, 3) needs (4,)"),
        (conv2d, (image, ones(4, 3, 3, 3), None, 1, 3), "padding 3 with input (2, 3, 5, 5) and weight (4, 3, 3, 3) is out of range"),
        (conv2d, (image, ones(4, 3, 6, 6)), "padding 0 with input (2, 3, 5, 5) and weight (4, 3, 6, 6) is out of range"),
        (conv2d, (image, ones(4, 3, 3, 3).half()), "dtypes are [torch.float32, torch.float16]"),
        (conv2d, (image, ones(4, 3, 3, 3, device="meta")), "devices are ['cpu', 'meta']; move all to one"),
        (max_pool2d, (x, 2), "input is (2, 3); give (batch, channels, height, width)"),
        (max_pool2d, (image, 6), "kernel_size is 6; an input of (2, 3, 5, 5) takes 2 to 5"),
        (max_pool2d, (image.double(), 2), "input is torch.float64"),
    ]
    for function, arguments, words in calls:
        with pytest.raises(ValueError) as caught:
            function(*arguments)
        assert str(caught.value).startswith(f"{function.__name__}: ")
        assert words in str(caught.value), caught.value
    with pytest.raises(IndexError):
        softmax(x, 2)


def needs_a_gpu() -> None:
    """Without the interpreter, tensors on the CPU are refused in words."""
    for function, _, shapes, others in cases():
        tensors = dict(zip(["input", "weight", "bias"], (torch.ones(shape) for shape in shapes), strict=False)) | others
        with pytest.raises(ValueError, match=r"on cpu; move (it|them) to a GPU, or set TRITON_INTERPRET=1"):
            function(tensors.pop("input"), **tensors)


def compile_all(capability: int) -> None:
    """Every kernel, for a GPU that is not there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerbench.kernels import matmul, maxpool2d, rmsnorm, softmax

    both, long = (False, True), {"BLOCK_WIDTH": softmax.LONG_ROW_BLOCK, "num_warps": 8}
    launches = [
        (matmul._matmul_kernel, matmul.tile(256, 512, torch.float16) | {"HAS_BIAS": True, "a_stride_k": 1, "b_stride_k": 1}),
        (matmul._column_sum_kernel, {"ROWS": 1024, "BLOCK_ROWS": 32, "BLOCK_COLUMNS": 64, "stride_column": 1}),
        (rmsnorm._forward_kernel, rmsnorm._tile(1024) | {"HAS_WEIGHT": True, "HAS_RESIDUAL": False, "residual_ptr": None}),
        (rmsnorm._backward_kernel, rmsnorm._tile(1024) | {"HAS_WEIGHT": True, "HAS_GRAD_H": False, "grad_h_ptr": None}),
        *((kernel, softmax._tile(4096) | {"LOG": log}) for kernel in (softmax._forward_kernel, softmax._backward_kernel) for log in both),
        *((kernel, long | {"LOG": log}) for kernel in (softmax._forward_long_kernel, softmax._backward_long_kernel) for log in both),
        (maxpool2d._forward_kernel, {"WINDOW": 2, "RELU": True, "BLOCK": 256}),
        (maxpool2d._backward_kernel, {"WINDOW": 2, "BLOCK": 1024}),
    ]
    types = {"rstd_ptr": "*fp32", "partial_ptr": "*fp32", "winner_ptr": "*u8", "eps": "fp32"}
    for kernel, arguments in launches:
        constants = {name: value for name, value in arguments.items() if name in kernel.arg_names}
        options = {name: value for name, value in arguments.items() if name not in constants}
        rest = {name: types.get(name, "*fp16" if name.endswith("_ptr") else "i32") for name in kernel.arg_names if name not in constants}
        signature = {name: rest.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert compiled.asm["cubin"], kernel
        assert f".target sm_{capability}" in compiled.asm["ptx"], kernel
        if kernel is matmul._matmul_kernel:
            assert "mma" in compiled.asm["ptx"], f"{kernel} multiplies float16 without tensor cores"


if __name__ == "__main__":
    torch.manual_seed(0)
    group = sys.argv[1]
    if group.startswith("sm_"):
        compile_all(int(group.removeprefix("sm_")))
    else:
        globals()[group]()
    print(f"{group}: every check passed")
