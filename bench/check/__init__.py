"""The regression check: did a change make a layer slower, larger or wrong?  Not the comparison of stored runs, which is compare's.

The flow: `tree` and `closure` say what changed, `plan` pairs the benchmarks of both sides, `session` measures units in a worker
process, `rounds` asks for them until `sequential` has decided each benchmark, `record` holds it all, and the rest prints it.
"""
