"""Launches at sizes that a kernel's docstring allows keep what CUDA allows: 2^31 - 1 programs along the first axis of a grid, 65535 along
the others.  Nothing is computed: the kernels note their grids, and the tensors, which are never touched, take no memory.

This process may have imported triton under its interpreter, so the check runs in a fresh one: this very file, as a script.
"""

import importlib.util
import math
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.usefixtures("forked_processes")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed: pip install triton")
def test_grids() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("grids are within CUDA's limits\n")


class Grids(list):
    """In the place of a kernel: the grids of its launches."""

    def __getitem__(self, grid):
        self.append(grid)
        return lambda *arguments, **named: None


def half(*shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.float16)


def calls() -> list[tuple]:
    """(module, op, arguments): more than 65535 blocks of a plane, a row or a matrix, whatever the module makes of them."""
    from layerbench.kernels import (
        avgpool2d,
        batchnorm,
        conv1d_causal,
        cross_entropy,
        depthwise_conv2d,
        groupnorm,
        kl_div,
        linear_cross_entropy,
        linear_gelu,
        matmul,
        maxpool2d,
    )

    image, statistic, row, wide = half(1, 1, 8192, 8200), torch.zeros(1), half(1, 2**27 + 2**12), half(1, 2**28 + 2**13)
    place, number, classes = torch.zeros(1, dtype=torch.int64), torch.zeros(1), half(2**23 + 2**8, 1)
    winner = torch.empty(1, 1, 4096, 4100, dtype=torch.uint8)
    return [
        (avgpool2d, avgpool2d._avg_pool2d_backward, (half(1, 1, 4096, 4100), 8192, 8200, 8192, 8200)),
        (batchnorm, batchnorm._batch_norm, (image.flatten(2), None, None, statistic, statistic, 1e-5)),
        (conv1d_causal, conv1d_causal._causal_conv1d, (half(1, 1, 2**26 + 1), half(1, 1, 3), None)),
        (cross_entropy, cross_entropy._cross_entropy_backward, (number, wide, place, number, -100)),
        (depthwise_conv2d, depthwise_conv2d._depthwise_conv2d, (image, half(1, 1, 1, 1), None, 0)),
        (groupnorm, groupnorm._group_norm_backward, (image.flatten(2), image.flatten(2), None, statistic[None], statistic[None])),
        (kl_div, kl_div._softmax_kl_div_backward, (number, row, row, torch.zeros(3, 1), True, True)),
        (linear_cross_entropy, linear_cross_entropy._linear_cross_entropy_backward, (number, half(1, 1), classes, place, number, -100)),
        (linear_gelu, linear_gelu._slope, (half(1, 2**22 + 2**7), half(1, 2**22 + 2**7))),
        (matmul, matmul._column_sum, (half(1, 1).expand(2**26 + 2**11, 1),)),
        (matmul, matmul._column_sum, (half(1, 2**22 + 2**7),)),
        (maxpool2d, maxpool2d._max_pool2d, (half(1, 1, 16_384, 16_400), 2, False)),
        (maxpool2d, maxpool2d._max_pool2d_backward, (half(1, 1, 4096, 4100), winner, 2, 8192, 8200)),
    ]


def main() -> None:
    from triton import JITFunction

    count = 0
    for module, op, arguments in calls():
        grids = {name: Grids() for name, value in vars(module).items() if isinstance(value, JITFunction | Grids)}
        vars(module).update(grids)
        op(*arguments)
        launches = [(name, grid) for name, seen in grids.items() for grid in seen]
        assert sum(math.prod(grid) for _, grid in launches) > 2**15, (op, launches)
        for name, (first, *others) in launches:
            assert first < 2**31 and max(others, default=0) <= 65_535, (op, name, first, others)
        count += len(launches)
    print(f"{count} grids are within CUDA's limits")


if __name__ == "__main__":
    main()
