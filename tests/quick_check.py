"""`layerbench check` as it is, but for units of a tenth of their length in one process: what tests plant is large.  Run as a script."""

from layerbench.bench import cli
from layerbench.bench.check import hands, unit

unit.SECONDS = 0.05
hands.PER_PROCESS = 1000

if __name__ == "__main__":
    cli.main()
