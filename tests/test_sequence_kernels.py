"""The kernels of attention, rope, embedding, lstm and gru: what the layers' own sizes do not reach, their errors, compilation for a GPU.

This process may have imported triton for real already, so each group of checks runs in a fresh one: this very file, as a script.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
import upstream

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton"),
    pytest.mark.usefixtures("forked_processes"),
]


INTERPRETED = pytest.param("interpreted", "1", marks=upstream.needs_interpreter)


@pytest.mark.parametrize(("group", "interpret"), [INTERPRETED, ("needs_a_gpu", "0"), ("compiled", "0")])
def test_in_a_fresh_process(group: str, interpret: str) -> None:
    environment = os.environ | {"TRITON_INTERPRET": interpret, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__, group], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{group}: every check passed\n")


def interpreted() -> None:
    import torch

    torch.manual_seed(0)
    attention_of_other_shapes()
    embedding_edges()
    states_of_lstm_and_gru()
    errors()


def agree(function, stock, tensors: list) -> None:
    """Outputs and gradients of all tensors that want one."""
    import torch

    leaves = [tensor for tensor in tensors if tensor.requires_grad]
    results = []
    for call in (function, stock):
        outputs = call(*tensors)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(7)
        cotangents = [torch.randn(y.shape, generator=generator) for y in outputs]
        results.append([*outputs, *torch.autograd.grad(outputs, leaves, cotangents)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def draw(*shape: int):
    import torch

    return torch.randn(shape, requires_grad=True)


def attention_of_other_shapes() -> None:
    """More keys than queries and fewer, causal or not, a scale of one's own, transposed heads, no key at all."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name

    from layerbench.kernels.attention import scaled_dot_product_attention as ours

    stock = F.scaled_dot_product_attention
    for queries, keys in ((3, 40), (40, 3)):
        for causal in (False, True):
            q, k, v = draw(2, 6, queries, 5), draw(2, 2, keys, 5), draw(2, 2, keys, 5)
            others = {"is_causal": causal, "enable_gqa": True, "scale": 0.3}
            agree(lambda *qkv, others=others: ours(*qkv, **others), lambda *qkv, others=others: stock(*qkv, **others), [q, k, v])
    q, k, v = (tensor.transpose(1, 2) for tensor in (draw(2, 7, 3, 18), draw(2, 7, 3, 18), draw(2, 7, 3, 18)))
    agree(ours, stock, [q, k, v])
    agree(ours, stock, [draw(1, 1, 3, 100), draw(1, 1, 3, 100), draw(1, 1, 3, 100)])  # the smaller blocks of wide float32 heads
    assert torch.equal(ours(q, k[:, :, :0], v[:, :, :0]), torch.zeros(2, 3, 7, 18))


def embedding_edges() -> None:
    import torch
    import torch.nn.functional as F  # noqa: N812 - its usual name

    from layerbench.kernels.embedding import embedding

    index, weight = torch.tensor([[1, 2, 2], [0, 1, 2]]), draw(4, 3)
    agree(lambda weight: embedding(index, weight, -2), lambda weight: F.embedding(index, weight, -2), [weight])
    odd = torch.tensor([1, 4, -1, 3])
    y = embedding(odd, weight)
    assert y.isnan().all(1).tolist() == [False, True, True, False]
    (grad,) = torch.autograd.grad(y, weight, torch.ones(4, 3))
    assert torch.equal(grad, torch.tensor([[0.0], [1.0], [0.0], [1.0]]).expand(4, 3))


def states_of_lstm_and_gru() -> None:
    """A first state of one's own gets its gradient, in both directions, with and without biases."""
    from torch import nn

    from layerbench.layers.gru import FunctionGRU, TritonGRU
    from layerbench.layers.lstm import FunctionLSTM, TritonLSTM

    for stock, others in ((nn.LSTM, (FunctionLSTM, TritonLSTM)), (nn.GRU, (FunctionGRU, TritonGRU))):
        for bias in (True, False):
            reference = stock(4, 3, batch_first=True, bidirectional=True, bias=bias)
            x, h, c = draw(2, 5, 4), draw(2, 2, 3), draw(2, 2, 3)
            state = [h, c] if stock is nn.LSTM else [h]
            for each in others:
                module = each(4, 3, batch_first=True, bidirectional=True, bias=bias)
                module.load_state_dict(reference.state_dict())
                agree(lambda *tensors, m=module: unpacked(m, *tensors), lambda *tensors, m=reference: unpacked(m, *tensors), [x, *state])
    with pytest.raises(ValueError, match="this variant takes one layer, batch_first=True"):
        FunctionGRU(4, 3)(x)


def unpacked(module, x, *state) -> tuple:
    y, last = module(x, state if len(state) > 1 else state[0])
    return (y, *last) if isinstance(last, tuple) else (y, last)


def calls() -> list[tuple]:
    """(function, arguments that it refuses, words of the error)."""
    import torch

    from layerbench.kernels.attention import scaled_dot_product_attention as attention
    from layerbench.kernels.embedding import embedding
    from layerbench.kernels.gru import gru
    from layerbench.kernels.lstm import lstm
    from layerbench.kernels.rope import rope

    ones, index = torch.ones, torch.zeros(3, dtype=torch.int64)
    q, x, h, table = ones(2, 4, 5, 6), ones(2, 5, 4), ones(2, 3), ones(5, 3)
    return [
        (attention, (q[0], q, q), "give (batch, heads, tokens, width) three times"),
        (attention, (q, q, q[:, :, :3]), "key must be as value, and all three of one batch and width"),
        (attention, (q, q[:, :2], q[:, :2]), "4 heads with 2 key heads; give as many, or with enable_gqa=True a divisor of 4"),
        (attention, (ones(1, 1, 1, 129),) * 3, "heads are 129 wide; this kernel takes 1 to 128"),
        (attention, (q, q, q.half()), "dtypes are [torch.float32, torch.float32, torch.float16]"),
        (attention, (q, q, q.to("meta")), "devices are ['cpu', 'cpu', 'meta']; move all to one"),
        (rope, (ones(5, 3), table, table), "input is (5, 3); give (..., tokens, width) with an even width"),
        (rope, (q, table[:4], table), "cos is (4, 3), sin (5, 3); input (2, 4, 5, 6) needs (5, 3)"),
        (rope, (q, table, table.clone().requires_grad_()), "cos or sin wants a gradient, and gets none here; detach it"),
        (rope, (q.double(), table, table), "dtypes are [torch.float64, torch.float32, torch.float32]"),
        (rope, (q, table, table.to("meta")), "devices are ['cpu', 'cpu', 'meta']"),
        (embedding, (index, ones(3)), "weight is (3,); give (rows, width)"),
        (embedding, (index, ones(3, 2), 3), "padding_idx is 3; weight has 3 rows"),
        (embedding, (index.int(), ones(3, 2)), "input is torch.int32, weight torch.float32"),
        (embedding, (index, ones(3, 2, device="meta")), "input is on cpu, weight on meta; move both to one"),
        (lstm, (x, h, h[:1], ones(12, 4), ones(12, 3)), "c (1, 3); give (batch, tokens, width) with at least one token, and (batch, 3)"),
        (lstm, (x, h, h, ones(9, 4), ones(12, 3)), "weight_ih is (9, 4), weight_hh (12, 3); give (4 hidden, 4) and (4 hidden, hidden)"),
        (lstm, (x, h, h.double(), ones(12, 4), ones(12, 3)), "torch.float64 on cpu"),
        (lstm, (x, h, h, ones(12, 4), ones(12, 3), None, ones(1)), "biases are [(1,)]; give (12,) to each"),
        (gru, (x[:, :0], h, ones(9, 4), ones(9, 3)), "input is (2, 0, 4), h (2, 3); give (batch, tokens, width) with at least one token"),
        (gru, (x, h, ones(12, 4), ones(9, 3)), "weight_ih is (12, 4), weight_hh (9, 3); give (3 hidden, 4) and (3 hidden, hidden)"),
        (gru, (x, h, ones(9, 4), ones(9, 3), None, ones(3)), "bias_hh is (3,); weight_hh (9, 3) needs (9,)"),
        (gru, (x, h.to("meta"), ones(9, 4), ones(9, 3)), "torch.float32 on meta"),
    ]


def errors() -> None:
    for function, arguments, words in calls():
        with pytest.raises(ValueError) as caught:
            function(*arguments)
        assert str(caught.value).startswith(f"{function.__name__}: ")
        assert words in str(caught.value), caught.value


def needs_a_gpu() -> None:
    """Without the interpreter, tensors on the CPU are refused in words."""
    import torch

    functions = {function.__name__: function for function, _, _ in calls()}
    ones = torch.ones
    arguments = {
        "scaled_dot_product_attention": (ones(1, 1, 2, 2),) * 3,
        "rope": (ones(2, 2), ones(2, 1), ones(2, 1)),
        "embedding": (torch.zeros(2, dtype=torch.int64), ones(2, 2)),
        "lstm": (ones(1, 2, 4), ones(1, 3), ones(1, 3), ones(12, 4), ones(12, 3)),
        "gru": (ones(1, 2, 4), ones(1, 3), ones(9, 4), ones(9, 3)),
    }
    assert arguments.keys() == functions.keys()
    for name, function in functions.items():
        with pytest.raises(ValueError, match=r"on cpu; move (it|them) to a GPU, or set TRITON_INTERPRET=1"):
            function(*arguments[name])


def compiled() -> None:
    """Every kernel, for a GPU that is not there."""
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from layerbench.kernels import attention_tiles, embedding, gru, lstm, rope

    attention = attention_tiles.tile(64, torch.float16) | {"CAUSAL": True}
    step = {"BLOCK": lstm.BLOCK, "num_warps": 4}
    tiled = [attention_tiles.forward_kernel, attention_tiles.grad_queries_kernel, attention_tiles.grad_keys_kernel]
    launches = [
        *((kernel, attention) for kernel in tiled),
        (rope._rotate_kernel, rope._tile(32) | {"BACK": True}),
        (embedding._gather_kernel, embedding._tile(128)),
        (embedding._sum_kernel, embedding._tile(128)),
        *((kernel, step) for file in (lstm, gru) for kernel in (file._forward_kernel, file._backward_kernel)),
    ]
    floats = dict.fromkeys(("log_ptr", "delta_ptr", "c_before_ptr", "c_ptr", "grad_c_ptr", "grad_h_ptr"), "*fp32")
    types = floats | dict.fromkeys(("index_ptr", "order_ptr", "first_ptr"), "*i64") | {"scale": "fp32"}
    for kernel, arguments in launches:
        constants = {name: value for name, value in arguments.items() if name in kernel.arg_names}
        options = {name: value for name, value in arguments.items() if name not in constants}
        rest = {name: types.get(name, "*fp16" if name.endswith("_ptr") else "i32") for name in kernel.arg_names if name not in constants}
        signature = {name: rest.get(name, "constexpr") for name in kernel.arg_names}
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()})
        binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert ".target sm_90" in binary.asm["ptx"], kernel
        assert ("mma" in binary.asm["ptx"]) == (kernel in tiled), kernel


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    print(f"{sys.argv[1]}: every check passed")
