"""Norms with other sums, other algebra and hand-written backwards, against torch's own."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from torch.autograd.function import once_differentiable

from layerbench.bench import Layer, Variant, randn

EPS = 1e-5
rows = {"sweep": {"batch": (8, 64), "width": (256,)}, "inputs": (randn("batch", "width"),)}
images = {"sweep": {"batch": (2, 8), "channels": (16,)}, "inputs": (randn("batch", "channels", 8, 8),)}


def of_width(module, size):
    return module(size["width"])


def of_channels(module, size):
    return module(size["channels"])


class ByMoments(nn.LayerNorm):
    """LayerNorm of a mean and a variance that are found another way."""

    def forward(self, x):
        mean, variance = self.moments(x)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class TwoPass(ByMoments):
    def moments(self, x):
        mean = x.mean(-1, keepdim=True)
        return mean, (x - mean).square().mean(-1, keepdim=True)


class OnePass(ByMoments):
    """The mean of the squares less the square of the mean."""

    def moments(self, x):
        mean = x.mean(-1, keepdim=True)
        return mean, x.square().mean(-1, keepdim=True) - mean.square()


class Merged(ByMoments):
    """Blocks of 64 by themselves, then merged: Chan, Golub and LeVeque, The American Statistician 37, 1983."""

    def moments(self, x):
        count, mean, square = 0, torch.zeros_like(x[..., :1]), torch.zeros_like(x[..., :1])
        for block in x.split(64, -1):
            more, middle = block.shape[-1], block.mean(-1, keepdim=True)
            apart = middle - mean
            square = square + (block - middle).square().sum(-1, keepdim=True) + apart.square() * (count * more / (count + more))
            count, mean = count + more, mean + apart * (more / (count + more))
        return mean, square / count


class Welford(ByMoments):
    """Number by number, in float32 at least: Welford, Technometrics 4, 1962."""

    def moments(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean, square = torch.zeros_like(wide[..., :1]), torch.zeros_like(wide[..., :1])
        for count, number in enumerate(wide.split(1, -1), 1):
            apart = number - mean
            mean = mean + apart / count
            square = square + apart * (number - mean)
        return mean.to(x.dtype), (square / x.shape[-1]).to(x.dtype)


class Compensated(ByMoments):
    """Sums whose rounding is carried on: Kahan, Communications of the ACM 8, 1965."""

    def moments(self, x):
        mean = kahan(x) / x.shape[-1]
        return mean, kahan((x - mean).square()) / x.shape[-1]


def kahan(x):
    total, lost = torch.zeros_like(x[..., :1]), torch.zeros_like(x[..., :1])
    for number in x.split(1, -1):
        corrected = number - lost
        new = total + corrected
        lost = (new - total) - corrected
        total = new
    return total


class InFloat32(ByMoments):
    def forward(self, x):
        wide = x if x.dtype == torch.float64 else x.float()
        normal = (wide - wide.mean(-1, keepdim=True)) / (wide.var(-1, unbiased=False, keepdim=True) + self.eps).sqrt()
        return (normal * self.weight + self.bias).to(x.dtype)


class NormByHand(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        mean = x.mean(-1, keepdim=True)
        scale = ((x - mean).square().mean(-1, keepdim=True) + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        return (x - mean) * scale * weight + bias

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, mean, scale = ctx.saved_tensors
        normal, inner = (x - mean) * scale, g * weight
        along = (inner * normal).mean(-1, keepdim=True)
        x_grad = scale * (inner - inner.mean(-1, keepdim=True) - normal * along)
        rest = tuple(range(g.dim() - 1))
        return x_grad, (g * normal).sum(rest), g.sum(rest), None


class Backward(nn.LayerNorm):
    def forward(self, x):
        return NormByHand.apply(x, self.weight, self.bias, self.eps)


right_layernorm_forms = Layer(
    "right_layernorm_forms",
    **rows,
    build=of_width,
    variants={
        "torch": Variant(nn.LayerNorm),
        "two_pass": Variant(TwoPass),
        "one_pass": Variant(OnePass),
        "merged": Variant(Merged),
        "welford": Variant(Welford),
        "kahan": Variant(Compensated),
        "in_float32": Variant(InFloat32),
        "by_hand": Variant(Backward),
    },
)


class ByDivision(nn.RMSNorm):
    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + self.eps).sqrt() * self.weight


class ByRoot(nn.RMSNorm):
    def forward(self, x):
        return self.weight * (x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt())


class ByLength(nn.RMSNorm):
    """The length of the row and of the epsilon beside it."""

    def forward(self, x):
        length = torch.cat([x, torch.full_like(x[..., :1], (x.shape[-1] * self.eps) ** 0.5)], -1).norm(dim=-1, keepdim=True)
        return x * (x.shape[-1] ** 0.5 / length) * self.weight


right_rmsnorm_forms = Layer(
    "right_rmsnorm_forms",
    **rows,
    build=of_width,
    variants={
        "torch": Variant(partial(nn.RMSNorm, eps=EPS)),
        "by_division": Variant(partial(ByDivision, eps=EPS)),
        "by_root": Variant(partial(ByRoot, eps=EPS)),
        "by_length": Variant(partial(ByLength, eps=EPS)),
    },
)


class ByRows(nn.GroupNorm):
    def forward(self, x):
        groups = x.reshape(x.shape[0], self.num_groups, -1)
        normal = F.layer_norm(groups, groups.shape[-1:], eps=self.eps).view_as(x)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


right_groupnorm_forms = Layer(
    "right_groupnorm_forms",
    **images,
    build=of_channels,
    variants={"torch": Variant(partial(nn.GroupNorm, 4)), "by_rows": Variant(partial(ByRows, 4))},
    verify_at=({"batch": 1}, {"batch": 3, "channels": 20}),
)


class ByBatch(nn.InstanceNorm2d):
    """Every image's channel as a channel of one image."""

    def forward(self, x):
        return F.batch_norm(x.reshape(1, -1, *x.shape[2:]), None, None, training=True, eps=self.eps).view_as(x)


class ByGroups(nn.InstanceNorm2d):
    def forward(self, x):
        return F.group_norm(x, x.shape[1], eps=self.eps)


right_instancenorm_forms = Layer(
    "right_instancenorm_forms",
    **images,
    build=of_channels,
    variants={"torch": Variant(nn.InstanceNorm2d), "by_batch": Variant(ByBatch), "by_groups": Variant(ByGroups)},
)


class Running(nn.BatchNorm2d):
    """BatchNorm by hand, with the running statistics: the variance there is the unbiased one."""

    def forward(self, x):
        if not self.training:
            return self.scaled(x, self.running_mean, self.running_var)
        mean, variance = self.statistics(x)
        with torch.no_grad():
            count = x.numel() / x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return self.scaled(x, mean, variance)

    def statistics(self, x):
        variance, mean = torch.var_mean(x, (0, 2, 3), unbiased=False)
        return mean, variance

    def scaled(self, x, mean, variance):
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class RunningCentred(Running):
    def statistics(self, x):
        mean = x.transpose(0, 1).flatten(1).mean(-1)
        return mean, (x - mean[:, None, None]).square().mean((0, 2, 3))

    def scaled(self, x, mean, variance):
        normal = (x - mean[:, None, None]) / (variance + self.eps).sqrt()[:, None, None]
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


right_batchnorm_forms = Layer(
    "right_batchnorm_forms",
    **images,
    build=of_channels,
    variants={"torch": Variant(nn.BatchNorm2d), "folded": Variant(Running), "centred": Variant(RunningCentred)},
    calls=3,
)
