"""What kinds of ways there are: such as compare tensors, and such as compare what can be said in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

if TYPE_CHECKING:
    from .use import Use

Values = Literal["ordinary", "finite", "any"]
Found = dict[str, Tensor]
Words = Mapping[str, str]  # what is seen, by what it is about


@dataclass(frozen=True)
class Way:
    """Tensors by name, compared with those of the reference in the same way.  Words beside them are limits where the reference has none.

    name         as a reader sees it.
    values       "ordinary": what differs fails.  "finite": values out of the ordinary, where the reference gives finite ones; what differs
                 is marked.  "any": NaN and infinities, compared by where they come out again; marked too.
    group        of these ways only the first that the reference survives is tried.
    absence      what a variant is called that raises an error here; "" for the error itself.
    within       a dtype that rounding may be as coarse as.
    random       also for a layer that is random, for it is not in this way.
    first_dtype  too slow to be tried in every dtype.
    traced       torch.compile or torch.export takes it: as first_dtype, and with a limit of time of its own.
    fault        what differs fails; else it is a limit.
    shrinks      values that make its tensors small: these are held against their own size, not against what is usual.
    roughly      of values out of the ordinary, how many times what is allowed one may be off: a mark is for what breaks, not for a digit.
    """

    name: str
    run: "Callable[[Use], Found | tuple[Found, Words]]"
    values: Values = "ordinary"
    group: str = ""
    absence: str = ""
    within: str = ""
    random: bool = False
    first_dtype: bool = False
    traced: bool = False
    fault: bool = True
    shrinks: bool = False
    roughly: float = 8.0

    @property
    def once(self) -> bool:
        """Not in every dtype."""
        return self.first_dtype or self.traced

    @property
    def times(self) -> float:
        return 1.0 if self.values == "ordinary" else self.roughly


@dataclass(frozen=True)
class Trait:
    """What is seen of a layer in words, by what it is about: a variant of which they are others than the reference's has a limit.

    Raises Mismatch where it is a fault in itself.
    """

    name: str
    run: "Callable[[Use], Words]"
    random: bool = True
