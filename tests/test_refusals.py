"""What the variants of layers/ leave out they refuse with a ValueError up front, and the edges that they do take are stock's.

That all variants agree at their layers' own sizes is for test_layers.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from layerbench.layers import (
    adaptive_avgpool2d,
    add_rmsnorm,
    attention,
    avgpool2d,
    batchnorm,
    conv1d_causal,
    conv2d,
    conv_transpose2d,
    convnet,
    depthwise_conv2d,
    dropout,
    embedding,
    groupnorm,
    gru,
    kldiv,
    layernorm,
    linear_crossentropy,
    linear_gelu,
    logsoftmax,
    lora,
    lstm,
    maxpool2d,
    mlp,
    mse,
    relu,
    residual_dropout,
    rmsnorm,
    rope,
    silu,
    softmax,
    swiglu,
)

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton")
IMAGE, PLANES = (2, 4, 6, 6), (4, 6, 6)
SEQUENCES = {"args": (3, 5), "batch_first": True}
TAKES = "this variant takes"

# layer, class without its prefix, what its module is made with, the shapes of its inputs, words of the refusal
BOTH: list[tuple[Any, str, dict[str, Any], tuple[Any, ...], str]] = [
    (maxpool2d, "MaxPool2d", {"args": (2,), "stride": 1}, (IMAGE,), TAKES),
    (maxpool2d, "MaxPool2d", {"args": (2,), "padding": 1}, (IMAGE,), TAKES),
    (maxpool2d, "MaxPool2d", {"args": (2,), "dilation": 2}, (IMAGE,), TAKES),
    (maxpool2d, "MaxPool2d", {"args": (4,), "ceil_mode": True}, (IMAGE,), TAKES),
    (maxpool2d, "MaxPool2d", {"args": (2,), "return_indices": True}, (IMAGE,), TAKES),
    (maxpool2d, "MaxPool2d", {"args": ((2, 3),)}, (IMAGE,), TAKES),
    (maxpool2d, "MaxPool2d", {"args": (2,)}, (PLANES,), TAKES),
    (avgpool2d, "AvgPool2d", {"args": (2,), "stride": 1}, (IMAGE,), TAKES),
    (avgpool2d, "AvgPool2d", {"args": (2,), "padding": 1}, (IMAGE,), TAKES),
    (avgpool2d, "AvgPool2d", {"args": (4,), "ceil_mode": True}, (IMAGE,), TAKES),
    (avgpool2d, "AvgPool2d", {"args": (2,), "divisor_override": 3}, (IMAGE,), TAKES),
    (avgpool2d, "AvgPool2d", {"args": ((2, 3),)}, (IMAGE,), TAKES),
    (avgpool2d, "AvgPool2d", {"args": (2,)}, (PLANES,), TAKES),
    (adaptive_avgpool2d, "AdaptiveAvgPool2d", {"args": (2,)}, (PLANES,), "give .batch, channels, height, width"),
    (conv2d, "Conv2d", {"args": (4, 4, 3), "dilation": 2}, (IMAGE,), TAKES),
    (conv2d, "Conv2d", {"args": (4, 4, 3), "groups": 2}, (IMAGE,), TAKES),
    (conv2d, "Conv2d", {"args": (4, 4, 3), "padding": 1, "padding_mode": "circular"}, (IMAGE,), TAKES),
    (conv2d, "Conv2d", {"args": (4, 4, 3), "padding": "same"}, (IMAGE,), TAKES),
    (conv2d, "Conv2d", {"args": (4, 4, 3)}, (PLANES,), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3), "dilation": 2}, (IMAGE,), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3), "groups": 2}, (IMAGE,), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3), "stride": 2, "output_padding": 1}, (IMAGE,), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3), "stride": 2}, (IMAGE, [14, 14]), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3)}, (PLANES,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 4, "stride": 2}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 4, "dilation": 2}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 4, "padding": 1, "padding_mode": "reflect"}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 4, "padding": "same"}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 8, 3), "groups": 4}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 2}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 4}, (PLANES,), TAKES),
    (conv1d_causal, "CausalConv1d", {"args": (4, 3)}, ((4, 6),), "give .batch, c.*, tokens"),
    (relu, "ReLU", {"inplace": True}, ((3,),), TAKES),
    (silu, "SiLU", {"inplace": True}, ((3,),), TAKES),
    (dropout, "Dropout", {"inplace": True}, ((3,),), TAKES),
    (residual_dropout, "ResidualDropout", {"inplace": True}, ((3,), (3,)), TAKES),
    (residual_dropout, "ResidualDropout", {}, ((2, 3), (3,)), r"residual .*\(3,\)"),
    (residual_dropout, "ResidualDropout", {}, ((3,), torch.ones(3).double()), "float64"),
    (embedding, "Embedding", {"args": (5, 3), "max_norm": 1.0}, (torch.tensor([1, 2]),), TAKES),
    (embedding, "Embedding", {"args": (5, 3), "scale_grad_by_freq": True}, (torch.tensor([1, 2]),), TAKES),
    (embedding, "Embedding", {"args": (5, 3), "sparse": True}, (torch.tensor([1, 2]),), TAKES),
    (softmax, "Softmax", {}, ((2, 3),), "give dim"),
    (logsoftmax, "LogSoftmax", {}, ((2, 3),), "give dim"),
    (mse, "MSE", {}, ((3,), torch.ones(3).double()), "float64"),
    (kldiv, "KLDivergence", {}, ((2, 3), torch.ones(2, 3).double()), "float64"),
    (rmsnorm, "RMSNorm", {"args": ((4, 6),)}, ((3, 6, 4),), "normalized_shape"),
    (add_rmsnorm, "AddRMSNorm", {"args": ((4, 6),)}, ((3, 6, 4), (3, 6, 4)), "normalized_shape"),
    (attention, "Attention", {}, ((4, 5, 6),) * 3, "give .*batch, heads, tokens, width"),
    (attention, "Attention", {}, ((1, 4, 5, 6), (1, 3, 5, 6), (1, 3, 5, 6)), "heads"),
    (lstm, "LSTM", SEQUENCES, ((2, 0, 3),), "at least one token"),
    (lstm, "LSTM", SEQUENCES, ((2, 4, 3), (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))), r"states of \(1, 2, 5\)"),
    (gru, "GRU", SEQUENCES, ((2, 0, 3),), "at least one token"),
    (gru, "GRU", SEQUENCES, ((2, 4, 3), torch.zeros(1, 1, 5)), r"states of \(1, 2, 5\)"),
]
FUNCTION = [(rope, "RoPE", {"args": (4, 3)}, (torch.ones(3, 4).bfloat16(),), "give one dtype")]
TRITON: list[tuple[Any, str, dict[str, Any], tuple[Any, ...], str]] = [
    (conv2d, "Conv2d", {"args": (4, 4, 3), "stride": (1, 2)}, (IMAGE,), TAKES),
    (conv2d, "Conv2d", {"args": (4, 4, 3), "padding": (1, 0)}, (IMAGE,), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3), "stride": (1, 2)}, (IMAGE,), TAKES),
    (conv_transpose2d, "ConvTranspose2d", {"args": (4, 4, 3), "padding": (1, 0)}, (IMAGE,), TAKES),
    (depthwise_conv2d, "DepthwiseConv2d", {"args": (4, 4, 3), "groups": 4, "padding": (1, 0)}, (IMAGE,), TAKES),
]


def made(layer: Any, name: str, options: dict[str, Any]) -> nn.Module:
    named = dict(options)
    return getattr(layer, name)(*named.pop("args", ()), **named)


@pytest.mark.parametrize(("layer", "name", "options", "inputs", "words"), [*BOTH, *FUNCTION])
def test_function_variants_refuse(layer: Any, name: str, options: dict[str, Any], inputs: tuple[Any, ...], words: str) -> None:
    refused(made(layer, f"Function{name}", options), inputs, words)


@needs_triton
@pytest.mark.parametrize(("layer", "name", "options", "inputs", "words"), [*BOTH, *TRITON])
def test_triton_variants_refuse(layer: Any, name: str, options: dict[str, Any], inputs: tuple[Any, ...], words: str) -> None:
    refused(made(layer, f"Triton{name}", options), inputs, words)


def refused(module: nn.Module, inputs: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        module(*(torch.ones(each) if isinstance(each, tuple) and isinstance(each[0], int) else each for each in inputs))


@pytest.mark.parametrize("options", [{}, {"stride": (1, 2), "padding": (1, 0)}])
@pytest.mark.parametrize(
    ("stock", "function", "groups"),
    [
        (nn.Conv2d, conv2d.FunctionConv2d, 1),
        (nn.ConvTranspose2d, conv_transpose2d.FunctionConvTranspose2d, 1),
        (nn.Conv2d, depthwise_conv2d.FunctionDepthwiseConv2d, 4),
    ],
)
def test_function_convolutions_take_uneven_pairs(stock: Any, function: Any, groups: int, options: dict[str, Any]) -> None:
    options = {name: value for name, value in options.items() if groups == 1 or name != "stride"}
    alike(stock, function, lambda cls: cls(4, 4, 3, groups=groups, **options), [torch.randn(IMAGE)])


@pytest.mark.parametrize("out", [1, (None, 2), (3, None)])
def test_adaptive_pooling_takes_all_forms_of_output_size(out: Any) -> None:
    alike(nn.AdaptiveAvgPool2d, adaptive_avgpool2d.FunctionAdaptiveAvgPool2d, lambda cls: cls(out), [torch.randn(2, 3, 5, 7)])


def test_groupnorm_takes_two_dimensions() -> None:
    alike(nn.GroupNorm, groupnorm.FunctionGroupNorm, lambda cls: cls(2, 8), [torch.randn(3, 8)])


def test_attention_without_keys_gives_zeros() -> None:
    q, k, v = torch.randn(2, 4, 3, 5), torch.randn(2, 2, 0, 5), torch.randn(2, 2, 0, 5)
    alike(attention.Attention, attention.FunctionAttention, lambda cls: cls(), [q, k, v])


def alike(stock: Any, other: Any, build: Callable[[Any], nn.Module], inputs: list[Tensor]) -> None:
    """Outputs and all gradients."""
    reference = build(stock)
    module = build(other)
    module.load_state_dict(reference.state_dict())
    results = []
    for each in (reference, module):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        y = each(*leaves)
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(7))
        results.append([y, *torch.autograd.grad(y, [*leaves, *each.parameters()], cotangent)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inputs", [1, 2])
def test_dropout_of_everything(inputs: int) -> None:
    module = (dropout.FunctionDropout if inputs == 1 else residual_dropout.FunctionResidualDropout)(1.0)
    given = [torch.randn(5, requires_grad=True) for _ in range(inputs)]
    y = module(*given)
    assert torch.equal(y, torch.zeros(5) if inputs == 1 else given[1])
    y.sum().backward()
    assert torch.equal(given[0].grad, torch.zeros(5))


def test_linear_crossentropy_is_never_negative_in_half_types() -> None:
    """The row of its class has by far the largest logit, and rounding that in one place alone would show."""
    generator = torch.Generator().manual_seed(0)
    weight, classes = torch.randn(600, 64, generator=generator).bfloat16(), torch.arange(40)
    x = (weight[classes].float() * 6 / 4).bfloat16()
    ours = [linear_crossentropy.LinearCrossEntropyFunction.apply(x[i : i + 1], weight, classes[i : i + 1]).item() for i in classes]
    stock = [nn.functional.cross_entropy(x[i : i + 1] @ weight.T, classes[i : i + 1]).item() for i in classes]
    assert min(ours) >= 0
    assert ours == pytest.approx(stock, abs=1e-6)


def test_linear_crossentropy_refuses_a_class_out_of_range() -> None:
    for classes in ([0, 3], [0, -1]):
        with pytest.raises(IndexError, match="not in 0 to 2"):
            linear_crossentropy.FunctionLinearCrossEntropy(4, 3)(torch.ones(2, 4), torch.tensor(classes))


NORMS = [
    (layernorm.FunctionLayerNorm, (6,), 1),
    (groupnorm.FunctionGroupNorm, (2, 8), 1),
    (batchnorm.FunctionBatchNorm, (8,), 1),
    (rmsnorm.FunctionRMSNorm, (6,), 1),
    (add_rmsnorm.FunctionAddRMSNorm, (6,), 2),
]


@pytest.mark.parametrize(("function", "arguments", "inputs"), NORMS)
def test_gradients_of_float32_parameters_are_not_rounded_to_a_half_types_input(function: Any, arguments: Any, inputs: int) -> None:
    given = [torch.randn(16, 8, 4, 6, generator=torch.Generator().manual_seed(n)).bfloat16() for n in range(inputs)]
    found = []
    for dtype, wide in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        module = function(*arguments).to(wide)
        y = module(*(x.to(dtype) for x in given))
        y = y if isinstance(y, Tensor) else y[0]
        y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(7)).bfloat16().to(y.dtype))
        found.append([each.grad for each in module.parameters()])
    for ours, exact in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        if inputs == 1:  # of two, the sum was rounded first
            torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5 * exact.abs().max().item())
        assert not torch.equal(ours, ours.bfloat16().float())


# function module, its input, parameters that are not needed for dL/dx, parameters that only dL/dx needs
SAVES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "linear_gelu": (lambda: linear_gelu.FunctionLinearGELU(5, 7), (3, 5), ("weight",)),
    "mlp": (lambda: mlp.FunctionMLP(5, 7), (3, 5), ("up.weight",)),
    "swiglu": (lambda: swiglu.FunctionGatedFeedForward(5, 7, "silu"), (3, 5), ("gate.weight", "up.weight")),
    "lora": (lambda: lora.FunctionLoRALinear(5, 7, 2), (3, 5), ("weight",)),
    "lstm": (lambda: lstm.FunctionLSTM(5, 7, batch_first=True), (3, 4, 5), ("weight_ih_l0",)),
    "gru": (lambda: gru.FunctionGRU(5, 7, batch_first=True), (3, 4, 5), ("weight_ih_l0",)),
    "convnet": (convnet.FunctionConvNet, (2, 1, 28, 28), ("conv1.weight",)),
}


@pytest.mark.parametrize("name", SAVES)
def test_only_what_a_wanted_gradient_needs_is_saved(name: str) -> None:
    build, shape, only_for_x = SAVES[name]
    module, x = build(), torch.randn(shape)
    parameters = dict(module.named_parameters())
    needed = saved_by(module, x)
    assert x.data_ptr() in needed
    assert needed.isdisjoint({parameters[each].data_ptr() for each in only_for_x})
    module.requires_grad_(False)
    needed = saved_by(module, x.requires_grad_())
    assert x.data_ptr() not in needed
    assert needed >= {parameters[each].data_ptr() for each in only_for_x}


def saved_by(module: nn.Module, x: Tensor) -> set[int]:
    saved: set[int] = set()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.add(tensor.data_ptr()) or tensor, lambda tensor: tensor):
        module(x)
    return saved


@pytest.mark.parametrize("module", [lstm.FunctionLSTM, gru.FunctionGRU])
def test_a_change_of_a_saved_output_is_refused(module: Any) -> None:
    y, _ = module(3, 5, batch_first=True)(torch.randn(2, 4, 3))
    with pytest.raises(RuntimeError, match="modified"):
        y.relu_().sum().backward()
