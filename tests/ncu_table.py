"""Tables as Nsight Compute writes them, and a program that stands where ncu stands.

The kernels, their figures and the form are those of ncu 2025.3.1 on an H200 with torch 2.11, in 11 of its 309 columns: rmsnorm and linear,
bfloat16.  Kernels of backward have an empty range of NVTX there, since another thread launched them.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from layerbench.bench.process.ncu import COUNTED, Counted

RANGE = "thread Domain:Push/Pop_Range:PL_Type:PL_Value:CLR_Type:Color:Msg_Type:Msg"
COLUMNS = (
    "ID",
    RANGE,
    "Kernel Name",
    "gpu__time_duration.sum",
    "dram__bytes_read.sum",
    "dram__bytes_write.sum",
    "lts__t_bytes.sum",
    "lts__t_sector_hit_rate.pct",
    "l1tex__t_sector_hit_rate.pct",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_active",
)
UNITS = ("", "", "", "ns", "byte", "byte", "byte", "%", "%", "%", "%")
BEFORE = """==WARNING== Note: Running with unmodified GPU clocks. If not controlled otherwise, profiling results may be inconsistent.
==PROF== Connected to process 655 (/usr/bin/python3.12)
==PROF== Disconnected from process 655
"""

Row = tuple[str, ...]
MARK: Row = ("", "at::cuda::<unnamed>::spin_kernel(long)", "2,016", "0", "0", "1,024", "50", "0", "1.56", "0")
NORM: Row = (
    '655  "<default domain>:stock:none:none:none:none:none:none" ',
    "void at::<unnamed>::vectorized_layer_norm_kernel<c10::BFloat16, float, 1>(int, T2, const T1 *, const T1 *, T2 *, T2 *, T1 *)",
    *("79,328", "136,765,184", "113,788,416", "513,377,664", "59.85", "60.46", "92.44", "0.33"),
)
NORM_BACKWARD: Row = (
    "",
    "void at::<unnamed>::layer_norm_grad_input_kernel_vectorized<c10::BFloat16, float, 1>(const T1 *, const T1 *, T1 *, int)",
    *("127,616", "373,160,448", "121,443,072", "928,731,616", "38.39", "30.57", "91.19", "0.21"),
)
FORWARD: Row = ("", "_forward_kernel", "64,544", "134,249,984", "109,812,736", "416,018,496", "51.35", "33.02", "92.18", "0")
BACKWARD: Row = ("", "_backward_kernel", "119,200", "268,578,304", "122,096,640", "618,223,456", "34.86", "1.25", "24.06", "0")
LINEAR: Row = (
    "",
    "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT",
    *("345,952", "296,224,768", "61,831,936", "2,185,381,984", "73.53", "0", "14.74", "94.86"),
)
LINEAR_AGAIN: Row = (
    "",
    "nvjet_sm90_tst_256x128_64x4_1x2_h_bz_coopA_bias_TNT",
    *("344,128", "296,627,456", "61,624,064", "2,175,697,792", "72.72", "0", "14.74", "95.06"),
)


def table(*rows: Row, columns: Sequence[str] = COLUMNS, units: Sequence[str] = UNITS) -> str:
    """The file that ncu writes, with a row per launch."""
    numbered = [(str(number), *row) for number, row in enumerate(rows)]
    lines = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in (columns, units, *numbered))
    return BEFORE + "\n".join(lines) + "\n"


def other(row: Row, **changes: str) -> Row:
    """A row with other cells, by the first word of their columns: dram__bytes_read="nan"."""
    return tuple(changes.get(column.partition(".")[0], cell) for column, cell in zip(COLUMNS[1:], row, strict=True))


def install(patch: pytest.MonkeyPatch, folder: Path, script: str) -> Path:
    """Put a program called ncu on PATH.  script: Python, with `log` and `target` in hand: ncu's log file, and the command to profile."""
    program = folder / "bin" / "ncu"
    program.parent.mkdir()
    begin = f"#!{sys.executable}\nimport subprocess, sys\nfrom pathlib import Path\n"
    words = "log = Path(sys.argv[sys.argv.index('--log-file') + 1])\ntarget = sys.argv[sys.argv.index('--log-file') + 2 :]\n"
    program.write_text(begin + words + script)
    program.chmod(0o755)
    patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def recorded(text: str, counted: Counted) -> str:
    """A script for `install`: it runs nothing, and answers for the target as well."""
    answer = msgspec.json.encode(counted).decode()
    return f"log.write_text({text!r})\n(Path(target[-1]) / {COUNTED!r}).write_text({answer!r})\n"
