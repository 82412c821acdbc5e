"""The convolutional network of layers/convnet.py at the size of CIFAR's images, from (batch, 3, 32, 32) to 10 scores:

Conv2d(3, 10, 5)  ReLU  MaxPool2d(2)  Conv2d(10, 20, 5)  ReLU  MaxPool2d(2)  flatten  Linear(500, 50)  ReLU  Linear(50, 10).
(the images: Krizhevsky, "Learning multiple layers of features from tiny images", 2009)

Only two modules' shapes depend on the image size, so the variants are convnet's.
"""

from collections.abc import Callable

from torch import nn

from ..bench import GPU, Layer, Variant, randn
from .convnet import ConvNet, FunctionConvNet, TritonConvNet


def for_cifar(module: Callable[[], ConvNet]) -> ConvNet:
    """The network with its first convolution for three colours, and its first linear layer for the 20 planes of 5 x 5 that are left."""
    network = module()
    network.conv1 = nn.Conv2d(3, 10, 5)
    network.hidden = nn.Linear(500, 50)
    return network


convnet_cifar = Layer(
    "convnet_cifar",
    sweep={"batch": (1, 16, 128)},
    inputs=(randn("batch", 3, 32, 32),),
    build=lambda module, size: for_cifar(module),
    variants={
        "stock": Variant(ConvNet),
        "function": Variant(FunctionConvNet),
        "triton": Variant(TritonConvNet, devices=GPU),
        "compile": Variant(ConvNet, compile=True),
    },
    verify_at=({"batch": 3},),
    on_request=True,
    gpu_sweep={"batch": (16, 128, 1024, 4096)},
)
