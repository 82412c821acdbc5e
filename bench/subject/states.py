"""Whether a variant's state_dict is one that the reference's weights can be loaded into."""

from collections.abc import Mapping

from torch import Tensor

from ..declare.mistake import Mistake


def compare(variant: str, state: Mapping[str, Tensor], first: str, expected: Mapping[str, Tensor]) -> None:
    """Raises Mistake where a name or a shape differs.  first: the reference's name."""
    for name, tensor in expected.items():
        if name not in state:
            raise Mistake(
                f"variant {variant!r}: state_dict lacks {name!r} that {first!r} has; subclass {first!r} and override only forward"
            )
        if state[name].shape != tensor.shape:
            theirs, ours = tuple(state[name].shape), tuple(tensor.shape)
            raise Mistake(f"variant {variant!r}: {name!r} in its state_dict has shape {theirs}, {first!r} has {ours}; give it that shape")
    for name in state:
        if name not in expected:
            raise Mistake(
                f"variant {variant!r}: state_dict has {name!r} that {first!r} lacks; register it with persistent=False, or remove it"
            )
