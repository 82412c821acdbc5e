"""Layers that are right at round sizes: without a tail, with a block too small, with a state that ends with its chunk."""

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "softmax no_tail": ("sizes and tails", "columns beyond the last multiple of 64 are left out of the sum"),
    "softmax tail_of_zeros": ("sizes and tails", "the last block is filled up with 0 in place of -inf"),
    "softmax block_of_2048": ("sizes and tails", "one block of 2048 columns: those behind it stay out of the maximum and the sum"),
    "softmax block_of_4096": ("sizes and tails", "one block of 4096 columns: those behind it stay out of the maximum and the sum"),
    "scan state_lost": ("chunks", "the state begins anew with every chunk of 64 tokens; fla 568"),
    "scan last_chunk_twice": ("chunks", "a last chunk that is part full starts with the state at its end; fla 1140"),
    "weights rows_dropped": ("sizes and tails", "the weight's gradient lacks the rows beyond a multiple of 8; llm.c 852"),
    "causal short": ("sizes and tails", "fewer tokens than taps: padded on the right"),
    "causal odd_channels": ("sizes and tails", "channels in pairs: with an odd number the last keeps its bias alone"),
    "groups uneven": ("sizes and tails", "rows longer than 1024 numbers are averaged over their first 1024"),
    "pooled squeezed": ("batch of 1", "squeeze() without a dimension loses the batch, too, where it is 1"),
    "pooled batch_guessed": ("batch of 1", "a batch of 1 is taken for a missing batch, and the mean is over channels"),
    "score squeezed": ("shapes that broadcast", "squeezes (batch, 1) scores and lets them broadcast against (batch, 1) targets"),
}
BLOCK = 64


def online_softmax(x):
    """Block by block, as in Milakov and Gimelshein (arXiv:1805.02867)."""
    top = torch.full_like(x[..., :1], float("-inf"))
    total = torch.zeros_like(top)
    for block in x.split(BLOCK, -1):
        new = torch.maximum(top, block.amax(-1, keepdim=True))
        total = total * (top - new).exp() + (block - new).exp().sum(-1, keepdim=True)
        top = new
    return (x - top).exp() / total


def no_tail(x):
    whole = max(x.shape[-1] // BLOCK * BLOCK, min(BLOCK, x.shape[-1]))
    top = x[..., :whole].amax(-1, keepdim=True)
    return (x - top).exp() / (x[..., :whole] - top).exp().sum(-1, keepdim=True)


def tail_of_zeros(x):
    padded = F.pad(x, (0, -x.shape[-1] % BLOCK))
    return padded.softmax(-1)[..., : x.shape[-1]]


def one_block(size):
    def softmax(x):
        top = x[..., :size].amax(-1, keepdim=True)
        return (x - top).exp() / (x[..., :size] - top).exp().sum(-1, keepdim=True)

    return softmax


softmax = Layer(
    "softmax",
    sweep={"batch": (8,), "width": (256,)},
    inputs=(randn("batch", "width"),),
    variants={
        "stock": Variant(lambda x: x.softmax(-1)),
        "online": Variant(online_softmax),
        "no_tail": Variant(no_tail),
        "tail_of_zeros": Variant(tail_of_zeros),
        "block_of_2048": Variant(one_block(2048)),
        "block_of_4096": Variant(one_block(4096)),
    },
)


def scanned(x, decay):
    """y_t = decay y_(t-1) + x_t, one token after the other."""
    a, found = decay.sigmoid(), [x[:, 0]]
    for token in range(1, x.shape[1]):
        found.append(a * found[-1] + x[:, token])
    return torch.stack(found, 1)


def _chunk(x, a, state):
    steps = torch.arange(x.shape[1], device=x.device)
    powers = (steps[:, None] - steps)[..., None]
    weights = torch.where(powers >= 0, a ** powers.clamp(min=0), torch.zeros((), dtype=x.dtype))
    return torch.einsum("tsc,bsc->btc", weights, x) + a ** (steps[:, None] + 1) * state[:, None]


def in_chunks(carry, tail=False):
    def scan(x, decay):
        a, state, found = decay.sigmoid(), torch.zeros_like(x[:, 0]), []
        for part in x.split(BLOCK, 1):
            short = tail and found and part.shape[1] < BLOCK
            found.append(_chunk(part, a, state + part[:, -1] if short else state))
            state = found[-1][:, -1] if carry else state
        return torch.cat(found, 1)

    return scan


scan = Layer(
    "scan",
    sweep={"batch": (2,), "tokens": (64,), "width": (8,)},
    inputs=(randn("batch", "tokens", "width"), randn("width")),
    variants={
        "stock": Variant(scanned),
        "chunks": Variant(in_chunks(carry=True)),
        "state_lost": Variant(in_chunks(carry=False)),
        "last_chunk_twice": Variant(in_chunks(carry=True, tail=True)),
    },
)


def product(rows):
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            return x @ weight.T

        @staticmethod
        def backward(ctx, g):
            x, weight = ctx.saved_tensors
            flat_g, flat_x = g.flatten(0, -2), x.flatten(0, -2)
            used = rows(len(flat_x))
            return g @ weight, flat_g[:used].T @ flat_x[:used]

    return Product.apply


weights = Layer(
    "weights",
    sweep={"batch": (32,), "width": (64,)},
    inputs=(randn("batch", "width"),),
    parameters={"weight": randn(16, "width")},
    variants={
        "stock": Variant(F.linear),
        "own": Variant(product(lambda rows: rows)),
        "rows_dropped": Variant(product(lambda rows: max(rows // 8 * 8, min(rows, 8)))),
    },
)


def by_taps(x, weight, bias):
    """A depthwise convolution that looks back three tokens."""
    padded = F.pad(x, (3, 0))
    return sum(padded[..., tap : tap + x.shape[-1]] * weight[:, 0, tap, None] for tap in range(4)) + bias[:, None]


def conv(x, weight, bias, pad=(3, 0)):
    return F.conv1d(F.pad(x, pad), weight, bias, groups=x.shape[1])


def odd_channels(x, weight, bias):
    even = x.shape[1] // 2 * 2
    return torch.cat([by_taps(x, weight, bias)[:, :even], bias[even:, None].expand(len(x), -1, x.shape[-1])], 1)


causal = Layer(
    "causal",
    sweep={"batch": (4,), "channels": (32,), "tokens": (64,)},
    inputs=(randn("batch", "channels", "tokens"),),
    parameters={"weight": randn("channels", 1, 4), "bias": randn("channels")},
    variants={
        "stock": Variant(conv),
        "by_taps": Variant(by_taps),
        "short": Variant(lambda x, *weights: conv(x, *weights, pad=(0, 3)) if x.shape[-1] < 4 else by_taps(x, *weights)),
        "odd_channels": Variant(odd_channels),
    },
)


def group_norm(most):
    def norm(x):
        rows = x.reshape(x.shape[0], 4, -1)
        seen = rows[..., :most]
        mean, variance = seen.mean(-1, keepdim=True), seen.var(-1, keepdim=True, correction=0)
        return ((rows - mean) * (variance + 1e-5).rsqrt()).reshape(x.shape)

    return norm


groups = Layer(
    "groups",
    sweep={"batch": (4,), "side": (8,)},
    inputs=(randn("batch", 16, "side", "side"),),
    variants={
        "stock": Variant(lambda x: F.group_norm(x, 4)),
        "by_hand": Variant(group_norm(None)),
        "uneven": Variant(group_norm(1024)),
    },
)
pooled = Layer(
    "pooled",
    sweep={"batch": (4,), "side": (8,)},
    inputs=(randn("batch", 16, "side", "side"),),
    variants={
        "stock": Variant(lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1)),
        "mean": Variant(lambda x: x.mean((2, 3))),
        "squeezed": Variant(lambda x: F.adaptive_avg_pool2d(x, 1).squeeze()),
        "batch_guessed": Variant(lambda x: x.mean((2, 3)) if len(x) > 1 else x.mean((1, 2))),
    },
)
score = Layer(
    "score",
    sweep={"batch": (16,), "width": (32,)},
    inputs=(randn("batch", "width"), randn("batch", 1), randn("width", 1)),
    variants={
        "stock": Variant(lambda x, target, weight: F.mse_loss(x @ weight, target)),
        "by_hand": Variant(lambda x, target, weight: (x @ weight - target).square().mean()),
        "squeezed": Variant(lambda x, target, weight: ((x @ weight).squeeze(-1) - target).square().mean()),
    },
)
