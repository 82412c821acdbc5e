"""The regression check: did a change make a layer slower, larger or wrong?  Not the comparison of stored runs, which is compare's.

The flow: `worktrees` and the suite's closures say what changed, `mounting` starts the workers, `pairing` pairs the benchmarks of both
sides, `examining` says what is right, `rounds` asks `executors` for units until each benchmark is decided, `verdicts` makes the rows.
`side/` is what runs in the workers, `show/` what is written and printed.
"""
