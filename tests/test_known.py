"""What is known of torch holds for its versions, and for no others."""

import known
import pytest


@pytest.mark.parametrize(
    ("version", "holds"),
    [("2.9.0", True), ("2.13.0+cpu", True), ("2.13.9", True), ("2.14.0", False), ("2.14.1+cu130", False), ("3.0", False)],
)
def test_a_fault_ends_with_the_version_that_mends_it(version: str, holds: bool) -> None:
    assert known.wrong("sgd", "fused", "float16", version) == holds
    assert not known.wrong("sgd", "fused", "float32", version)
    assert not known.wrong("sgd", "foreach", "float16", version)


@pytest.mark.parametrize(("version", "holds"), [("2.13.0", False), ("2.14.1", True), ("2.20.0", True)])
def test_a_refusal_begins_with_its_version(version: str, holds: bool) -> None:
    assert known.refuses_empty("groupnorm", version) == holds
    assert not known.refuses_empty("layernorm", version)
