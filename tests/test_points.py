"""The installed suite's points as pytest-benchmark tests:  pytest --benchmark-only -k 'softmax and batch16'.

Collected only with --benchmark-only (see conftest.py): they are measurements, and test_layers.py proves the same variants in less time.
"""

from layerbench.bench.pytest_face import points

test_point = points()
