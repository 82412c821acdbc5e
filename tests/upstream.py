"""What is known of the faults of torch and triton, each with the versions that have it.  Not a place for faults of ours.

In its versions a fault must be seen, in all others the ordinary must be: tests/test_upstream.py asks both, so no entry goes stale in
silence.  Seen with torch 2.9.0, 2.11.0, 2.13.0 and 2.14.1, triton 3.5.0, 3.6.0, 3.7.1 and 3.8.0; versions between are supposed.
"""

import importlib.util
from importlib import metadata
from typing import NamedTuple

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version


class Fault(NamedTuple):
    package: str
    versions: str  # as in a requirement
    what: str
    numpy: str = ""  # with these versions of it alone

    def holds(self, installed: str | None = None) -> bool:
        """Has the installed version, or the one given, this fault?  Of a build such as 2.13.0+cpu only 2.13.0 counts."""
        version = Version(installed or metadata.version(self.package))
        beside = not self.numpy or SpecifierSet(self.numpy).contains(metadata.version("numpy"))
        return SpecifierSet(self.versions).contains(version.public, prereleases=True) and beside


FUSED_SGD = Fault(
    "torch", ">=2.9,<2.14", "fused SGD on a CPU is another step in half types: https://github.com/pytorch/pytorch/issues/191763"
)
JIT_WARNING = Fault("torch", ">=2.10,<2.14", "torch.utils.mkldnn, which torch.compile imports, warns of torch.jit, which it uses itself")
TF32_WARNING = Fault("torch", ">=2.9,<2.11", "reading the float32 matmul precision warns of an interface for TF32 that it is itself")
GRAD_WARNING = Fault("torch", ">=2.9", "torch.compile warns of a .grad that it reads itself, where it carries tensors over a graph break")
EAGER_RNN = Fault("torch", ">=2.9", "torch.compile leaves nn.LSTM and nn.GRU to eager, with the whole module around them")
ONCE_DIFFERENTIABLE = Fault("torch", ">=2.9", "once_differentiable gives a constant, where the gradient that comes in is one")
GROUPED_FLOPS = Fault("torch", ">=2.9", "FlopCounterMode counts a convolution's backward as if it had one group")
INTERPRETED_LOOP = Fault("triton", ">=3.5,<3.7", "the interpreter cannot loop to a number that it was given", numpy=">=2.4")
INTERPRETED_BFLOAT16 = Fault("triton", ">=3.5", "the interpreter truncates to bfloat16 where a GPU rounds")

TRITON = importlib.util.find_spec("triton") is not None
NO_INTERPRETER = (
    "Triton is not installed: pip install triton"
    if not TRITON
    else f"triton {metadata.version('triton')} with numpy {metadata.version('numpy')}: {INTERPRETED_LOOP.what}"
    if INTERPRETED_LOOP.holds()
    else ""
)
needs_interpreter = pytest.mark.skipif(bool(NO_INTERPRETER), reason=NO_INTERPRETER)
