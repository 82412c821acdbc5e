"""Normalisations and losses: the edges and errors of their kernels under Triton's interpreter, compilation for a GPU, and the contracts
of their function variants.  That all variants agree is for test_layers.

This process may have imported triton for real already, so each group of checks runs in a fresh one: this very file, as a script.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
import upstream

from layerbench.layers import batchnorm, crossentropy, kldiv, linear_crossentropy

INF = float("inf")

INTERPRETED = [pytest.param(group, "1", marks=upstream.needs_interpreter) for group in ("losses", "norms", "errors")]


@pytest.mark.usefixtures("forked_processes")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton")
@pytest.mark.parametrize(("group", "interpret"), [*INTERPRETED, ("sm_90", "0")])
def test_kernels(group: str, interpret: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, group], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{group}: every check passed\n")


def run(function, tensors, *others, **named) -> list[torch.Tensor]:
    """Outputs and gradients of a call; cotangents are drawn from the same seed."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    outputs = function(*leaves, *others, **named)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    generator = torch.Generator().manual_seed(7)
    cotangents = [torch.randn(output.shape, generator=generator).to(output.dtype) for output in outputs]
    return [*(output.detach() for output in outputs), *torch.autograd.grad(outputs, leaves, cotangents)]


def same(got: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float = 1e-5) -> None:
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs.to(mine.dtype), rtol=tolerance, atol=tolerance, equal_nan=True)


def stock_linear(x, weight, target, **named):
    return F.cross_entropy(x @ weight.T, target, **named)


def stock_kl(x, t):
    return F.kl_div(x.log_softmax(1), t.softmax(1), reduction="batchmean")


def test_function_losses_leave_out_ignored_rows() -> None:
    x, weight = torch.randn(5, 7, dtype=torch.float64), torch.randn(7, 7, dtype=torch.float64)
    for target in (torch.tensor([3, -100, 0, 6, -100]), torch.full((5,), -100)):
        same(run(crossentropy.FunctionCrossEntropy(), [x], target), run(F.cross_entropy, [x], target))
        ours = linear_crossentropy.LinearCrossEntropyFunction.apply
        same(run(ours, [x, weight], target), run(stock_linear, [x, weight], target))
    with pytest.raises(ValueError, match="give no weight and no label_smoothing"):
        crossentropy.FunctionCrossEntropy(label_smoothing=0.1)(x, target)
    with pytest.raises(ValueError, match=r"input is \(5, 7\), target \(5, 7\)"):
        crossentropy.FunctionCrossEntropy()(x, x)


def test_blocks_of_classes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, weight, target = torch.randn(9, 5, dtype=torch.float64), torch.randn(300, 5, dtype=torch.float64), torch.randint(300, (9,))
    monkeypatch.setattr(linear_crossentropy, "HELD_ON_CPU", 1)
    assert len(list(linear_crossentropy._blocks(x, weight))) == 3
    ours = linear_crossentropy.LinearCrossEntropyFunction.apply
    same(run(ours, [x, weight], target), run(stock_linear, [x, weight], target), 1e-10)


def test_function_kl_counts_nothing_where_the_target_is_ruled_out() -> None:
    torch.manual_seed(0)
    x, t = torch.randn(3, 6), torch.randn(3, 6)
    t[0, :3] = -INF
    assert stock_kl(x, t).isfinite()
    torch.testing.assert_close(kldiv.KLDivergenceFunction.apply(x, t), stock_kl(x, t))


@pytest.mark.parametrize("momentum", [0.3, None])
@pytest.mark.parametrize("tracked", [True, False])
def test_function_batchnorm_keeps_stocks_statistics(momentum: float | None, tracked: bool) -> None:
    torch.manual_seed(0)
    stock, ours = (
        module(3, momentum=momentum, track_running_stats=tracked, affine=False)
        for module in (torch.nn.BatchNorm2d, batchnorm.FunctionBatchNorm)
    )
    for images in (4, 1, 0, 2):
        x = torch.randn(images, 3, 2, 2)
        same(run(ours, [x]), run(stock, [x]))
        same([*ours.buffers()], [*stock.buffers()])
    for norm in (stock, ours):
        norm.eval()
    same(run(ours, [x]), run(stock, [x]))
    for norm in (stock, ours):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training, got input size"):
            norm.train()(torch.randn(1, 3, 1, 1))


def losses() -> None:
    from layerbench.kernels import linear_cross_entropy as module
    from layerbench.kernels.cross_entropy import cross_entropy
    from layerbench.kernels.kl_div import softmax_kl_div

    linear, module.HELD = module.linear_cross_entropy, 1  # backward by one tile of classes at a time
    x, weight, wide = torch.randn(5, 7), torch.randn(150, 7), torch.randn(5, 150)
    wide[1, 3:] = -INF
    for target in (torch.tensor([3, -100, 0, 149, -100]), torch.full((5,), -100)):
        for reduction in ("mean", "sum", "none"):
            same(run(cross_entropy, [wide], target, reduction=reduction), run(F.cross_entropy, [wide], target, reduction=reduction))
            same(run(linear, [x, weight], target, reduction=reduction), run(stock_linear, [x, weight], target, reduction=reduction))
    outside = torch.tensor([3, 150, 0, -1, -100])
    for got in (cross_entropy(wide, outside, reduction="none"), linear(x, weight, outside, reduction="none")):
        assert got.isnan().tolist() == [False, True, False, True, False]
    _, grad = run(cross_entropy, [wide], outside, reduction="none")
    assert grad.isnan().all(1).tolist() == [False, True, False, True, False]
    t = torch.randn(5, 150)
    t[0, 4:] = -INF
    torch.testing.assert_close(softmax_kl_div(x, x.roll(1)), stock_kl(x, x.roll(1)))
    torch.testing.assert_close(softmax_kl_div(t.nan_to_num(), t), stock_kl(t.nan_to_num(), t))


def norms() -> None:
    from layerbench.kernels.batchnorm import batch_norm
    from layerbench.kernels.groupnorm import group_norm
    from layerbench.kernels.layernorm import layer_norm
    from layerbench.kernels.rmsnorm import add_rms_norm

    x, weight = torch.randn(3, 4, 5) + 300, torch.randn(5)  # a variance taken as a difference of large sums would be wrong here
    shift = torch.randn(4)
    same(run(layer_norm, [x], (5,)), run(F.layer_norm, [x.double()], (5,)), 2e-4)
    same(run(layer_norm, [x], (5,), bias=weight), run(F.layer_norm, [x.double()], (5,), bias=weight.double()), 2e-4)
    same(run(layer_norm, [x], (4, 5)), run(F.layer_norm, [x.double()], (4, 5)), 2e-4)
    same(run(group_norm, [x], 2), run(F.group_norm, [x.double()], 2), 2e-4)
    same(run(group_norm, [x], 2, bias=shift), run(F.group_norm, [x.double()], 2, bias=shift.double()), 2e-4)
    for training in (True, False):
        mine, theirs = (torch.rand(2, 4) for _ in range(2))
        theirs.copy_(mine)
        named = {"bias": shift, "training": training, "momentum": 0.3}
        same(run(batch_norm, [x], *mine, **named), run(F.batch_norm, [x], *theirs, **named), 2e-4)
        same([mine], [theirs])
    same(run(batch_norm, [x], None, None, training=True), run(F.batch_norm, [x], None, None, training=True), 2e-4)
    mixed, cotangent = (torch.randn(6, 4, 5).half(), torch.randn(4), torch.randn(4)), torch.randn(6, 4, 5).half()  # as under autocast
    results = []
    for norm, (image, *affine) in ((batch_norm, mixed), (F.batch_norm, [each.double() for each in mixed])):
        y = norm(image, None, None, *(each.requires_grad_() for each in affine), training=True)
        results.append(torch.autograd.grad(y, affine, cotangent.to(y.dtype)))
    same(*results)
    mixed = [(x - 300).bfloat16(), torch.linspace(0.5, 1.5, 4)]  # the gradient of a float32 weight is not rounded as x is
    weighted = [run(lambda x, w, norm=norm: norm(x, None, None, w, training=True), mixed)[2] for norm in (batch_norm, F.batch_norm)]
    same(*([each] for each in weighted))
    for used in ([0], [1]):  # of y and h
        calls = (
            lambda *tensors, used=used: [add_rms_norm(*tensors, (5,))[i] for i in used],
            lambda *tensors, used=used: [(F.rms_norm(tensors[0] + tensors[1], (5,)), tensors[0] + tensors[1])[i] for i in used],
        )
        same(*(run(call, [x - 300, x.flip(0) - 300]) for call in calls))


def errors() -> None:
    from layerbench.kernels.batchnorm import batch_norm
    from layerbench.kernels.cross_entropy import cross_entropy
    from layerbench.kernels.groupnorm import group_norm
    from layerbench.kernels.kl_div import softmax_kl_div
    from layerbench.kernels.layernorm import layer_norm
    from layerbench.kernels.linear_cross_entropy import linear_cross_entropy
    from layerbench.kernels.mse import mse_loss
    from layerbench.kernels.rmsnorm import add_rms_norm

    x, classes, ones = torch.ones(2, 4), torch.zeros(2, dtype=torch.int64), torch.ones
    calls = [
        (layer_norm, (x, (3,)), "input (2, 4) must end in normalized_shape (3,)"),
        (layer_norm, (x, (4,), ones(4).half()), "weight is torch.float16 on cpu; input is torch.float32 on cpu"),
        (layer_norm, (ones(1, 16_385), (16_385,)), "has 16385 numbers; this kernel takes 1 to 16384"),
        (add_rms_norm, (x, ones(2, 3), (4,)), "input is (2, 4), residual (2, 3); give both one shape"),
        (add_rms_norm, (x, x.half(), (4,)), "dtypes are [torch.float32, torch.float16]"),
        (group_norm, (x, 3), "input (2, 4) in 3 groups"),
        (group_norm, (ones(1, 4, 1), 4), "Expected more than 1 value per channel"),
        (group_norm, (x, 2, ones(3)), "weight is (3,); input (2, 4) needs (4,)"),
        (batch_norm, (ones(1, 4, 1), None, None, None, None, True), "Expected more than 1 value per channel"),
        (batch_norm, (x, None, None), "give running_mean and running_var, or in training neither"),
        (batch_norm, (x, ones(4), ones(3)), "running_var is (3,) on cpu; input (2, 4) on cpu needs (4,)"),
        (cross_entropy, (x, classes[:1]), "input is (2, 4), target (1,)"),
        (cross_entropy, (x, x[:, 0]), "input is torch.float32, target torch.float32"),
        (cross_entropy, (x, classes, -100, "average"), "reduction is 'average'; give 'mean', 'sum' or 'none'"),
        (linear_cross_entropy, (x, ones(3, 5), classes), "shapes are [(2, 4), (3, 5), (2,)]"),
        (mse_loss, (x, ones(4)), "input is (2, 4), target (4,); give both one shape"),
        (softmax_kl_div, (x, x.double()), "input is torch.float32, target torch.float64"),
    ]
    for function, arguments, words in calls:
        with pytest.raises(ValueError) as caught:
            function(*arguments)
        assert str(caught.value).startswith(f"{function.__name__}: ")
        assert words in str(caught.value), caught.value


def sm_90() -> None:
    """Every kernel of the family, for a GPU that is not there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerbench.kernels import batchnorm, cross_entropy, groupnorm, kl_div, layernorm, linear_cross_entropy, mse, rmsnorm

    tile = linear_cross_entropy._tile(256, torch.float16)
    affine, wants = {"HAS_WEIGHT": True, "HAS_BIAS": True}, {"X": True, "T": True}
    launches = [
        (layernorm._forward_kernel, layernorm._tile(1024) | affine),
        (layernorm._backward_kernel, layernorm._tile(1024) | {"HAS_WEIGHT": True, "AFFINE": True}),
        (rmsnorm._forward_kernel, rmsnorm._tile(1024) | {"HAS_WEIGHT": True, "HAS_RESIDUAL": True}),
        (rmsnorm._backward_kernel, rmsnorm._tile(1024) | {"HAS_WEIGHT": True, "HAS_GRAD_H": True}),
        (groupnorm._forward_kernel, groupnorm._block(5000) | affine),
        (groupnorm._forward_kernel, groupnorm._block(1) | affine | {"plane": 1, "channels": 1}),
        (groupnorm._sums_kernel, groupnorm._block(5000)),
        (groupnorm._backward_kernel, groupnorm._block(5000)),
        (batchnorm._statistics_kernel, {"BLOCK": 1024, "num_warps": 4}),
        (batchnorm._sums_kernel, {"BLOCK": 1024, "num_warps": 4, "plane": 1, "channels": 1}),
        (batchnorm._apply_kernel, {"BLOCK": 1024, "num_warps": 4, "HAS_X": True}),
        (cross_entropy._forward_kernel, cross_entropy._block(32_000)),
        (cross_entropy._backward_kernel, cross_entropy._block(32_000)),
        (linear_cross_entropy._forward_kernel, tile),
        (linear_cross_entropy._difference_kernel, tile),
        (mse._forward_kernel, {"SHARE": mse.SHARE, "BLOCK": mse.BLOCK}),
        (mse._backward_kernel, {"BLOCK": mse.BLOCK} | wants),
        (kl_div._forward_kernel, kl_div._block(32_000)),
        (kl_div._backward_kernel, kl_div._block(32_000) | {"rows": 1} | wants),
    ]
    half = {"x_ptr", "grad_ptr", "y_ptr", "weight_ptr", "bias_ptr", "residual_ptr", "h_ptr", "grad_h_ptr", "u_ptr", "out_ptr", "t_ptr"}
    half |= {"grad_x_ptr", "dx_ptr", "dt_ptr", "d_ptr"}
    for kernel, arguments in launches:
        constants = {name: value for name, value in arguments.items() if name in kernel.arg_names}
        options = {name: value for name, value in arguments.items() if name not in constants}
        types = {"eps": "fp32", "target_ptr": "*fp16" if kernel in (mse._forward_kernel, mse._backward_kernel) else "*i64"}
        types |= dict.fromkeys(half, "*fp16")
        rest = {name: types.get(name, "*fp32" if name.endswith("_ptr") else "i32") for name in kernel.arg_names if name not in constants}
        signature = {name: rest.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert ".target sm_90" in compiled.asm["ptx"], kernel
        if tile.items() <= arguments.items():
            assert "mma" in compiled.asm["ptx"], f"{kernel} multiplies float16 without tensor cores"


if __name__ == "__main__":
    torch.manual_seed(0)
    globals()[sys.argv[1]]()
    print(f"{sys.argv[1]}: every check passed")
