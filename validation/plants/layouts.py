"""Layers that read memory by other strides than those of the tensor they are given."""

import torch
import torch.nn.functional as F

from layerbench.bench import Layer, Variant, randn

PLANTS = {
    "avgpool gradient_flat": ("layout of gradients", "backward reads the gradient's memory as if it were contiguous; pytorch 194719"),
    "avgpool input_flat": ("layout of inputs", "forward reads the input's memory as if it were contiguous"),
    "avgpool from_storage_start": ("layout of inputs", "forward reads from the start of the storage, not of the tensor"),
    "avgpool like_the_input": ("layout of inputs", "writes row by row into memory that has the input's layout (empty_like)"),
    "rms last_stride_one": ("layout of inputs", "takes the stride of rows, and 1 for that inside a row"),
    "rms gradient_by_input_strides": ("layout of gradients", "one set of strides, the input's, for input and incoming gradient"),
    "rms rows_merged": ("layout of inputs", "takes batch and tokens for one dimension with the stride of tokens"),
    "rms gradient_row_reused": ("layout of gradients", "takes an incoming gradient with any stride of 0 for one number everywhere"),
    "attention value_by_key_strides": ("layout of inputs", "one set of strides, the key's, for keys and values"),
    "attention heads_from_projection": ("layout of inputs", "takes queries for a transposed view of (batch, tokens, heads, width)"),
}


def contiguous_strides(shape):
    return torch.empty(shape, device="meta").stride()


def flat(tensor):
    return tensor.as_strided(tensor.shape, contiguous_strides(tensor.shape), tensor.storage_offset())


def averaged(x):
    """Of 2 x 2; a last row or column that is alone is left out."""
    b, c, h, w = x.shape
    return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5))


class Pool(torch.autograd.Function):
    read_input = read_gradient = staticmethod(lambda tensor: tensor)

    @classmethod
    def mean(cls, x):
        return averaged(cls.read_input(x))

    @classmethod
    def spread(cls, g, shape):
        spread = cls.read_gradient(g).repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
        return F.pad(spread, (0, shape[3] % 2, 0, shape[2] % 2))


def pool(**how):
    """A function of its own class, as `apply` wants it."""

    class Made(Pool):
        @staticmethod
        def forward(ctx, x):
            ctx.shape = x.shape
            return Made.mean(x)

        @staticmethod
        def backward(ctx, g):
            return Made.spread(g, ctx.shape)

    for name, read in how.items():
        setattr(Made, name, staticmethod(read))
    return Made.apply


def from_storage_start(x):
    return x.as_strided(x.shape, x.stride(), 0)


def written_like_the_input(x):
    values = averaged(x)
    out = torch.empty_like(x[:, :, : values.shape[2], : values.shape[3]])
    return values.contiguous().as_strided(values.shape, out.stride())


avgpool = Layer(
    "avgpool",
    sweep={"batch": (4,), "side": (16,)},
    inputs=(randn("batch", 8, "side", "side"),),
    variants={
        "stock": Variant(lambda x: F.avg_pool2d(x, 2)),
        "own": Variant(pool()),
        "own_contiguous": Variant(pool(read_input=torch.Tensor.contiguous, read_gradient=torch.Tensor.contiguous)),
        "gradient_flat": Variant(pool(read_gradient=flat)),
        "input_flat": Variant(pool(read_input=flat)),
        "from_storage_start": Variant(pool(read_input=from_storage_start)),
        "like_the_input": Variant(written_like_the_input),
        "own_like": Variant(lambda x: torch.empty_like(F.avg_pool2d(x, 2)).copy_(F.avg_pool2d(x, 2))),
    },
)


def rms(read_x=lambda x: x, read_g=lambda g, x: g):
    class Rms(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            ctx.save_for_backward(x, weight)
            values = read_x(x)
            return values * (values.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight

        @staticmethod
        def backward(ctx, g):
            x, weight = ctx.saved_tensors
            g, values = read_g(g, x), read_x(x)
            r = (values.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
            x_hat, gw = values * r, g * weight
            return r * (gw - x_hat * (gw * x_hat).mean(-1, keepdim=True)), (g * x_hat).flatten(0, -2).sum(0)

    return Rms.apply


def last_stride_one(x):
    return x.as_strided(x.shape, (*x.stride()[:-1], 1), x.storage_offset())


def rows_merged(x):
    b, t, w = x.shape
    room = x.untyped_storage().nbytes() // x.element_size() - x.storage_offset()
    reach = (b * t - 1) * x.stride(1) + (w - 1) * x.stride(2) + 1
    return x.as_strided(x.shape, (t * x.stride(1), x.stride(1), x.stride(2)), x.storage_offset()) if reach <= room else x


def by_input_strides(g, x):
    room = g.untyped_storage().nbytes() // g.element_size() - g.storage_offset()
    reach = sum((size - 1) * stride for size, stride in zip(g.shape, x.stride(), strict=True)) + 1
    return g.as_strided(g.shape, x.stride(), g.storage_offset()) if reach <= room else g


def one_number(g, x):
    return g.flatten()[0].expand_as(g) if 0 in g.stride() else g


rmsnorm = Layer(
    "rms",
    sweep={"batch": (4,), "tokens": (16,), "width": (64,)},
    inputs=(randn("batch", "tokens", "width"), randn("width")),
    variants={
        "stock": Variant(lambda x, weight: F.rms_norm(x, weight.shape, weight, 1e-6)),
        "own": Variant(rms()),
        "last_stride_one": Variant(rms(read_x=last_stride_one)),
        "gradient_by_input_strides": Variant(rms(read_g=by_input_strides)),
        "rows_merged": Variant(rms(read_x=rows_merged)),
        "gradient_row_reused": Variant(rms(read_g=one_number)),
    },
)


def attend(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def value_by_key_strides(q, k, v):
    room = v.untyped_storage().nbytes() // v.element_size() - v.storage_offset()
    reach = sum((size - 1) * stride for size, stride in zip(v.shape, k.stride(), strict=True)) + 1
    return attend(q, k, v.as_strided(v.shape, k.stride(), v.storage_offset()) if reach <= room else v)


def heads_from_projection(q, k, v):
    """A kernel that walks from head to head by one width, and from token to token by all heads, unless the tensor is contiguous."""
    b, h, t, d = q.shape
    strides = q.stride() if q.is_contiguous() else (h * t * d, d, h * d, 1)
    room = q.untyped_storage().nbytes() // q.element_size() - q.storage_offset()
    return attend(q.as_strided(q.shape, strides, q.storage_offset()) if b * h * t * d <= room else q, k, v)


attention = Layer(
    "attention",
    sweep={"batch": (2,), "tokens": (32,)},
    inputs=(randn("batch", 4, "tokens", 16), randn("batch", 4, "tokens", 16), randn("batch", 4, "tokens", 16)),
    variants={
        "stock": Variant(F.scaled_dot_product_attention),
        "own": Variant(attend),
        "value_by_key_strides": Variant(value_by_key_strides),
        "heads_from_projection": Variant(heads_from_projection),
    },
)
