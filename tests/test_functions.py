"""The hand-derived backward passes of layers/: right to the last digit in float64, and at the edges of what stock accepts.

Not the comparison of whole layers with stock at their sweep sizes: the suite's own verification does that.
"""

from itertools import product

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from layerbench.layers import convnet, linear, rmsnorm, softmax


def numbers(*shape: int, dtype: torch.dtype = torch.float64, grad: bool = True) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype).requires_grad_(grad)


def stock_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(F.conv2d(x, weight, bias)), 2)


def stock_head(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    return F.linear(F.relu(F.linear(x, weight1, bias1)), weight2, bias2)


# name -> (Function, stock, shape of the input without its batch, shapes of the parameters, constant arguments by place)
CASES = {
    "linear": (linear.LinearFunction, F.linear, (5,), ((3, 5), (3,)), {}),
    "rmsnorm": (rmsnorm.RMSNormFunction, F.rms_norm, (4, 3), ((3,),), {1: (3,), 3: 1e-5}),
    "rmsnorm over two axes": (rmsnorm.RMSNormFunction, F.rms_norm, (4, 3), ((4, 3),), {1: (4, 3), 3: None}),
    "softmax": (softmax.SoftmaxFunction, F.softmax, (6,), (), {1: -1}),
    "softmax over the first axis": (softmax.SoftmaxFunction, F.softmax, (6, 2), (), {1: 1}),
    "convolution": (convnet.ConvPoolReLUFunction, stock_conv, (2, 7, 8), ((3, 2, 3, 2), (3,)), {}),
    "head": (convnet.LinearReLULinearFunction, stock_head, (4,), ((5, 4), (5,), (3, 5), (3,)), {}),
}
TWICE = ("linear", "softmax", "softmax over the first axis")
cases = pytest.mark.parametrize("name", CASES)


def tensors(name: str, batch: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    _, _, shape, parameters, _ = CASES[name]
    return [numbers(batch, *shape, dtype=dtype), *(numbers(*parameter, dtype=dtype) for parameter in parameters)]


def call(function, name: str, given: list[Tensor]) -> Tensor:
    """function(*given), the constants put into their places."""
    arguments: list = list(given)
    for place, value in sorted(CASES[name][4].items()):
        arguments.insert(place, value)
    return function(*arguments)


def both(name: str, given: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients of the Function and of stock."""
    results = []
    for function in (CASES[name][0].apply, CASES[name][1]):
        output = call(function, name, given)
        cotangent = numbers(*output.shape, dtype=output.dtype, grad=False)
        wanting = [tensor for tensor in given if tensor.requires_grad]
        results.append([output.detach(), *torch.autograd.grad(output, wanting, cotangent)])
    return results[0], results[1]


def test_every_function_is_covered() -> None:
    modules = (convnet, linear, rmsnorm, softmax)
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    assert {value for value in found if issubclass(value, torch.autograd.Function)} == {case[0] for case in CASES.values()}


@cases
def test_gradients_whichever_inputs_want_one(name: str) -> None:
    given = tensors(name)
    for wanted in product((True, False), repeat=len(given)):
        for tensor, grad in zip(given, wanted, strict=True):
            tensor.requires_grad_(grad)
        if any(wanted):
            assert gradcheck(lambda *given: call(CASES[name][0].apply, name, list(given)), given)


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives(name: str) -> None:
    assert gradgradcheck(lambda *given: call(CASES[name][0].apply, name, list(given)), tensors(name))


@pytest.mark.parametrize("name", [name for name in CASES if name not in TWICE])
def test_a_second_derivative_is_refused_where_it_would_be_wrong(name: str) -> None:
    given = tensors(name)
    (grad,) = torch.autograd.grad(call(CASES[name][0].apply, name, given).square().sum(), given[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@cases
def test_empty_batch(name: str) -> None:
    for ours, stock in zip(*both(name, tensors(name, batch=0)), strict=True):
        assert ours.shape == stock.shape
        assert torch.equal(ours, stock)


@cases
def test_non_contiguous_inputs(name: str) -> None:
    given = [tensor.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_() for tensor in tensors(name)]
    for ours, stock in zip(*both(name, given), strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-12, atol=1e-12)


@cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_lose_no_more_than_stock(name: str, dtype: torch.dtype) -> None:
    given = tensors(name, batch=16, dtype=dtype)
    ours, stock = both(name, given)
    exact, _ = both(name, [tensor.detach().double().requires_grad_() for tensor in given])
    for mine, theirs, reference in zip(ours, stock, exact, strict=True):
        assert mine.dtype == dtype
        allowed = max(2 * (theirs - reference).abs().max().item(), 4 * torch.finfo(dtype).eps * reference.abs().max().item())
        assert (mine - reference).abs().max().item() <= allowed


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_linear_takes_any_number_of_batch_dimensions(shape: tuple[int, ...]) -> None:
    given = [numbers(*shape), numbers(3, 5), numbers(3)]
    for ours, stock in zip(*both("linear", given), strict=True):
        torch.testing.assert_close(ours, stock, rtol=1e-12, atol=1e-12)


def test_optional_parameters() -> None:
    x, weight = numbers(2, 5), numbers(3, 5)
    assert gradcheck(lambda x, weight: linear.LinearFunction.apply(x, weight, None), (x, weight))
    assert gradcheck(lambda x: rmsnorm.RMSNormFunction.apply(x, (5,), None, None), (x,))
    for dtype in (torch.float32, torch.bfloat16):  # eps None is that of the type computed in
        small = (x.detach() * 1e-4).to(dtype)
        torch.testing.assert_close(rmsnorm.RMSNormFunction.apply(small, (5,), None, None), F.rms_norm(small, (5,)))


def test_the_convolution_keeps_its_winners_in_16_bits() -> None:
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        call(convnet.ConvPoolReLUFunction.apply, "convolution", tensors("convolution"))
    assert [tensor.dtype for tensor in saved] == [torch.float64, torch.float64, torch.float64, torch.int16]
    wide = [numbers(1, 1, 2, 40_000), numbers(1, 1, 1, 2), numbers(1)]  # more positions than 16 bits can name
    (ours, *_), (stock, *_) = both("convolution", [wide[0], numbers(1, 1, 1, 2), wide[2]])
    torch.testing.assert_close(ours, stock)
