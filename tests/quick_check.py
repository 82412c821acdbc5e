"""`layerbench check` as it is, but for units of a tenth of their length in one process: what tests plant is large.  Run as a script."""

from layerbench.bench.check import executors, unit
from layerbench.bench.cli import main

unit.SECONDS = 0.05
executors.PER_PROCESS = 1000

if __name__ == "__main__":
    main.main()
