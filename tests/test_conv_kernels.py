"""The Triton kernels of convolution and pooling: values and gradients under Triton's interpreter, their errors, compilation for GPUs.

Sizes that no layer has: other strides, paddings, kernels and windows.  As in test_kernels, each group runs in a process of its own.
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
from torch import Tensor

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"),
    pytest.mark.usefixtures("forked_processes"),
]


@pytest.mark.parametrize(("group", "interpret"), [pytest.param("interpreted", "1", marks=upstream.needs_interpreter), ("compiled", "0")])
def test_in_a_fresh_process(group: str, interpret: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, group], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{group}: every check passed\n")


def causal(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv1d(F.pad(input, (weight.shape[2] - 1, 0)), weight, bias, groups=input.shape[1])


def depthwise(input: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    return F.conv2d(input, weight, bias, padding=padding, groups=input.shape[1])


def relu_of_maximum(input: Tensor, kernel_size: int, relu: bool) -> Tensor:
    return F.relu(F.max_pool2d(input, kernel_size))


def cases() -> list[tuple]:
    """(kernel function, torch's, shapes of the tensors, other arguments)."""
    from layerbench.kernels import avgpool2d, conv1d_causal, depthwise_conv2d
    from layerbench.kernels.conv2d import conv2d
    from layerbench.kernels.conv2d import conv_transpose2d as transpose
    from layerbench.kernels.maxpool2d import max_pool2d

    return [
        (conv2d, F.conv2d, [(2, 3, 6, 7), (4, 3, 3, 2)], {}),
        (conv2d, F.conv2d, [(2, 3, 9, 8), (4, 3, 3, 2), (4,)], {"stride": 2, "padding": 1}),
        (conv2d, F.conv2d, [(2, 3, 11, 10), (4, 3, 4, 5), (4,)], {"stride": 3, "padding": 3}),  # rows beyond the last window
        (conv2d, F.conv2d, [(2, 3, 7, 8), (4, 3, 1, 1), (4,)], {"stride": 2}),  # a stride longer than the kernel
        (conv2d, F.conv2d, [(5, 1, 31, 31), (66, 1, 1, 1), (66,)], {"stride": 2}),  # two shares of the positions, two blocks of outputs
        (transpose, F.conv_transpose2d, [(2, 3, 4, 5), (3, 4, 3, 2), (4,)], {}),
        (transpose, F.conv_transpose2d, [(2, 3, 4, 5), (3, 4, 4, 4), (4,)], {"stride": 2, "padding": 1}),
        (transpose, F.conv_transpose2d, [(2, 3, 4, 5), (3, 4, 5, 4)], {"stride": 3, "padding": 2}),
        (transpose, F.conv_transpose2d, [(2, 3, 4, 5), (3, 4, 2, 2), (4,)], {"stride": 3}),  # rows that no tap reaches
        (transpose, F.conv_transpose2d, [(3, 2, 18, 20), (2, 66, 1, 1), (66,)], {}),
        (depthwise_conv2d.depthwise_conv2d, depthwise, [(2, 3, 6, 7), (3, 1, 3, 2), (3,)], {}),
        (depthwise_conv2d.depthwise_conv2d, depthwise, [(1, 2, 9, 8), (2, 1, 7, 7)], {"padding": 3}),
        (depthwise_conv2d.depthwise_conv2d, depthwise, [(1, 2, 25, 27), (2, 1, 5, 5), (2,)], {"padding": 4}),
        (conv1d_causal.causal_conv1d, causal, [(2, 3, 9), (3, 1, 1), (3,)], {}),
        (conv1d_causal.causal_conv1d, causal, [(2, 3, 5), (3, 1, 7)], {}),  # a kernel longer than the sequence
        (conv1d_causal.causal_conv1d, causal, [(1, 2, 1030), (2, 1, 3), (2,)], {}),
        (max_pool2d, relu_of_maximum, [(2, 3, 9, 11)], {"kernel_size": 2, "relu": True}),
        (max_pool2d, relu_of_maximum, [(1, 2, 12, 7)], {"kernel_size": 3, "relu": True}),
        (avgpool2d.avg_pool2d, F.avg_pool2d, [(2, 3, 9, 11)], {"kernel_size": 1}),
        (avgpool2d.avg_pool2d, F.avg_pool2d, [(2, 3, 9, 11)], {"kernel_size": 4}),
        (avgpool2d.adaptive_avg_pool2d, F.adaptive_avg_pool2d, [(2, 3, 9, 11)], {"output_size": (9, 3)}),
        (avgpool2d.adaptive_avg_pool2d, F.adaptive_avg_pool2d, [(2, 3, 6, 5)], {"output_size": (12, 8)}),  # more than there is
        (avgpool2d.adaptive_avg_pool2d, F.adaptive_avg_pool2d, [(1, 2, 40, 43)], {"output_size": (1, 1)}),  # a window of two blocks
    ]


def run(function, tensors, others) -> list:
    """Output and gradients, the cotangent drawn from the same seed for every type."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    output = function(*leaves, **others)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).half().to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, cotangent)]


def interpreted() -> None:
    for function, stock, shapes, others in cases():
        for dtype, exact in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
            torch.manual_seed(len(shapes[0]))
            tensors = [torch.randn(shape).half().to(dtype) for shape in shapes]
            reference = run(stock, [tensor.double() for tensor in tensors], others)
            for got, expected in zip(run(function, tensors, others), reference, strict=True):
                assert got.dtype == dtype, (function, got.dtype)
                assert got.shape == expected.shape, (function, got.shape)
                error = (got.double() - expected).abs().max() / expected.abs().max()
                assert error < exact, (function.__name__, shapes, others, dtype, error)
        if math.prod(shapes[0]) < 2000:
            edges(function, stock, shapes, others)
    more_positions_than_shares_of_the_usual_size()
    forms_of_output_size()
    errors()


def forms_of_output_size() -> None:
    from layerbench.layers.adaptive_avgpool2d import TritonAdaptiveAvgPool2d

    x = torch.randn(2, 3, 5, 7)
    for out in (1, (None, 2), (3, None)):
        torch.testing.assert_close(TritonAdaptiveAvgPool2d(out)(x), F.adaptive_avg_pool2d(x, out))


def edges(function, stock, shapes, others) -> None:
    """An empty batch, views, and gradients not asked for."""
    tensors = [torch.randn(0, *shapes[0][1:]), *(torch.randn(shape) for shape in shapes[1:])]
    for got, expected in zip(run(function, tensors, others), run(stock, tensors, others), strict=True):
        assert torch.equal(got, expected), (function, shapes)
    tensors = [torch.randn(shape[::-1]).permute(*reversed(range(len(shape)))) for shape in shapes]
    both = run(function, tensors, others), run(stock, tensors, others)
    for got, expected in zip(*both, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    for wanted, expected in enumerate(both[1][1:]):
        alone = [tensor.detach().requires_grad_(place == wanted) for place, tensor in enumerate(tensors)]
        output = function(*alone, **others)
        cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).half().to(output.dtype)
        (got,) = torch.autograd.grad(output, alone[wanted], cotangent)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def more_positions_than_shares_of_the_usual_size() -> None:
    from layerbench.kernels import conv2d

    tensors = [torch.randn(5, 2, 31, 31), torch.randn(3, 2, 2, 2), torch.randn(3)]  # 4500 positions, one tile of dW
    for conv2d.PROGRAMS in (2, 1):
        for got, expected in zip(run(conv2d.conv2d, tensors, {}), run(F.conv2d, tensors, {}), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def errors() -> None:
    from layerbench.kernels.avgpool2d import adaptive_avg_pool2d, avg_pool2d
    from layerbench.kernels.conv1d_causal import causal_conv1d
    from layerbench.kernels.conv2d import conv2d, conv_transpose2d
    from layerbench.kernels.depthwise_conv2d import depthwise_conv2d

    ones, image, row = torch.ones, torch.ones(2, 3, 5, 5), torch.ones(2, 3, 5)
    calls = [
        (conv2d, (image, ones(4, 2, 3, 3)), "input (2, 3, 5, 5) does not fit weight (4, 2, 3, 3)"),
        (conv2d, (image, ones(4, 3, 3, 3), ones(3)), "bias is (3,); weight (4, 3, 3, 3) needs (4,)"),
        (conv2d, (image, ones(4, 3, 3, 3), None, 0), "stride 0, padding 0 with input (2, 3, 5, 5) and weight (4, 3, 3, 3) is out of range"),
        (conv2d, (image, ones(4, 3, 3, 3), None, 2, 3), "stride 2, padding 3"),
        (conv2d, (image, ones(4, 3, 6, 6)), "stride 1, padding 0"),
        (conv2d, (image, ones(4, 3, 3, 3).half()), "dtypes are [torch.float32, torch.float16]"),
        (conv2d, (image, ones(4, 3, 3, 3, device="meta")), "devices are ['cpu', 'meta']; move all to one"),
        (conv_transpose2d, (image, ones(4, 3, 3, 3)), "input (2, 3, 5, 5) does not fit weight (4, 3, 3, 3)"),
        (conv_transpose2d, (image, ones(3, 4, 3, 3), ones(3)), "bias is (3,); weight (3, 4, 3, 3) needs (4,)"),
        (conv_transpose2d, (image, ones(3, 4, 3, 3), None, 0), "stride 0, padding 0"),
        (conv_transpose2d, (ones(2, 3, 1, 5), ones(3, 4, 2, 2), None, 1, 1), "stride 1, padding 1"),
        (depthwise_conv2d, (image, ones(3, 3, 3, 3)), "input (2, 3, 5, 5) does not fit weight (3, 3, 3, 3)"),
        (depthwise_conv2d, (image, ones(3, 1, 3, 3), ones(4)), "bias is (4,); weight (3, 1, 3, 3) needs (3,)"),
        (depthwise_conv2d, (image, ones(3, 1, 3, 3), None, 3), "padding 3 with input (2, 3, 5, 5) and weight (3, 1, 3, 3) is out of range"),
        (depthwise_conv2d, (ones(1, 3, 20, 20), ones(3, 1, 12, 12)), "has more than 127 taps to a channel"),
        (depthwise_conv2d, (image, ones(3, 1, 3, 3).half()), "dtypes are [torch.float32, torch.float16]"),
        (causal_conv1d, (row, ones(3, 3, 4)), "input (2, 3, 5) does not fit weight (3, 3, 4)"),
        (causal_conv1d, (row, ones(3, 1, 64)), "has 64 taps; this kernel takes 1 to 63"),
        (causal_conv1d, (row, ones(3, 1, 4), ones(4)), "bias is (4,); weight (3, 1, 4) needs (3,)"),
        (causal_conv1d, (row, ones(3, 1, 4).double()), "dtypes are [torch.float32, torch.float64]"),
        (avg_pool2d, (row, 2), "input is (2, 3, 5); give (batch, channels, height, width)"),
        (avg_pool2d, (image, 6), "kernel_size is 6; an input of (2, 3, 5, 5) takes 1 to 5"),
        (avg_pool2d, (image.double(), 2), "input is torch.float64"),
        (adaptive_avg_pool2d, (image, (0, 2)), "output_size is (0, 2); give two sizes of at least 1"),
    ]
    for function, arguments, words in calls:
        with pytest.raises(ValueError) as caught:
            function(*arguments)
        assert str(caught.value).startswith(f"{function.__name__}: ")
        assert words in str(caught.value), caught.value


def compiled() -> None:
    """Every kernel, for GPUs that are not there; without the interpreter, tensors on the CPU are refused in words."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerbench.kernels import avgpool2d, conv1d_causal, conv2d, conv2d_tiles, depthwise_conv2d

    for function, _, shapes, others in cases():
        with pytest.raises(ValueError, match=r"on cpu; move (it|them) to a GPU, or set TRITON_INTERPRET=1"):
            function(*(torch.ones(shape) for shape in shapes), **others)
    windows = {"STRIDE": 2, "PAD": 1, "KH": 4, "KW": 4}, {"STRIDE": 1, "PAD": 0, "KH": 5, "KW": 5}
    taps = [window | conv2d._blocks(32) | {"num_warps": 8, "num_stages": 1} for window in windows]
    depth = {"PAD_H": 1, "PAD_W": 1, "KH": 3, "KW": 3}
    products = [
        *((conv2d_tiles.conv2d_kernel, each | {"HAS_BIAS": True, "BLOCK_POSITIONS": 128}) for each in taps),
        *((conv2d_tiles.grad_weight_kernel, each | {"BLOCK_POSITIONS": 64}) for each in taps),
        *((conv2d_tiles.conv_transpose2d_kernel, each | {"HAS_BIAS": False, "bias_ptr": None, "BLOCK_POSITIONS": 128}) for each in taps),
    ]
    others = [
        (depthwise_conv2d._depthwise_kernel, depth | {"TURNED": True, "HAS_BIAS": True, "BLOCK": 512}),
        (depthwise_conv2d._grad_weight_kernel, depth | {"BLOCK_TAPS": 16, "BLOCK": 128}),
        (conv1d_causal._causal_kernel, {"TAPS": 4, "TURNED": True, "HAS_BIAS": True, "BLOCK": 1024}),
        (conv1d_causal._grad_weight_kernel, {"TAPS": 4, "BLOCK_TAPS": 8, "BLOCK": 256}),
        (avgpool2d._forward_kernel, {"BLOCK_WINDOWS": 16, "BLOCK_PLACES": 64}),
        (avgpool2d._backward_kernel, {"OVER_ROWS": 2, "OVER_COLUMNS": 1, "BLOCK": 1024}),
    ]
    for kernel, arguments in products + others:
        constants = {name: value for name, value in arguments.items() if name in kernel.arg_names}
        options = {name: value for name, value in arguments.items() if name not in constants}
        types = {name: "*fp16" if name.endswith("_ptr") else "i32" for name in kernel.arg_names if name not in constants}
        signature = {name: types.get(name, "constexpr") for name in kernel.arg_names} | {
            name: "*fp32" for name in types if name == "partial_ptr"
        }
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
        for capability in (80, 90):
            built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
            assert f".target sm_{capability}" in built.asm["ptx"], kernel
            assert ("mma" in built.asm["ptx"]) == ((kernel, arguments) in products), kernel  # float16 products by tensor cores


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print(f"{sys.argv[1]}: every check passed")
