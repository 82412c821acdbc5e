"""The inputs of a layer: how each tensor is drawn, by `randn`, `positive`, `integers` and others, and what stands beside tensors.

An argument is a `Draw`, a list, tuple or dict of arguments, or a plain value, as a number, that the module is given as it is.
"""

import keyword
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from .fields import is_number, is_size, parameters, shown, takes
from .mistake import Mistake

if TYPE_CHECKING:
    from torch import Generator, Tensor

Kind = Literal[
    "normal", "positive", "integers", "uniform", "mask", "additive_mask", "one_hot", "lengths", "probabilities", "complex", "drawn"
]
Size = Mapping[str, int]
Function = Callable[[Size, "Generator"], "Tensor | tuple[Tensor, ...]"]
COUNTED = {"integers": "below", "one_hot": "classes", "lengths": "most"}  # kind -> what `below` is called where it is written
NAMES = {"normal": "randn", "complex": "complex_randn", "drawn": "draw"}  # kind -> what is written, where that is another word
PLAIN = (str, int, float, complex, type(None))  # an argument that no tensor is in


@dataclass(frozen=True, repr=False)
class Draw:
    """One input tensor.  Its dimensions are names from the sweep, or fixed numbers.

    below          of integers, one_hot and lengths the number that they stay under, or reach; a number or a name from the sweep.
    numbers        of uniform low and high; of a mask the share that is kept.
    function       of kind "drawn": called with the size and a torch.Generator; returns the tensor, or a tuple of `of` tensors.
    place, of      which of the function's tensors this is.
    requires_grad  whether it takes part in backward.  Whole numbers and truth values never do.
    """

    dims: tuple[str | int, ...]
    kind: Kind
    below: str | int | None = None
    numbers: tuple[float, ...] = ()
    function: Function | None = None
    place: int = 0
    of: int = 1
    requires_grad: bool = True

    def __repr__(self) -> str:
        """As it is written: the same in every process, whatever a function's address is."""
        said = [repr(dim) for dim in self.dims] if isinstance(self.dims, tuple | list) else [repr(self.dims)]
        said += [f"{COUNTED.get(str(self.kind), 'below')}={self.below!r}"] if self.below is not None else []
        said += [str(number) for number in self.numbers]
        said += [f"{getattr(self.function, '__name__', 'a function')}[{self.place}]"] if self.function else []
        return f"{NAMES.get(str(self.kind), self.kind)}({', '.join(said)})"

    def words(self) -> tuple[str, ...]:
        """The sweep dimensions this input mentions."""
        return tuple(word for word in (*self.dims, self.below) if isinstance(word, str))

    def wrong(self) -> str:
        """What is wrong with it and what to write, as the end of a sentence; "" where nothing is."""
        if not isinstance(self.dims, tuple | list) or not all(isinstance(dim, str) or is_size(dim) for dim in self.dims):
            return f'has dims {shown(self.dims)}; write names from the sweep or positive whole numbers, as randn("batch", 28)'
        if self.kind not in get_args(Kind):
            return f"has kind {shown(self.kind)}; choose from {', '.join(get_args(Kind))}"
        if not isinstance(self.requires_grad, bool):
            return f"has requires_grad={shown(self.requires_grad)}; write True or False"
        if self.kind not in COUNTED and self.below is not None:
            return f"is {self.kind} and has below={shown(self.below)}; only integers have it: remove it"
        if self.kind in COUNTED and not isinstance(self.below, str) and not is_size(self.below):
            called = COUNTED[self.kind]
            example = f'{self.kind}("batch", {called}=10)'
            return f"has {called}={shown(self.below)}; write a positive whole number or a name from the sweep, as {example}"
        return self._wrong_numbers() or self._wrong_function()

    def _wrong_numbers(self) -> str:
        if self.kind == "uniform":
            if len(self.numbers) != 2 or not all(map(is_number, self.numbers)) or not self.numbers[0] < self.numbers[1]:
                return f'has low and high {shown(self.numbers)}; write two numbers, as uniform("batch", low=-1.0, high=1.0)'
        elif self.kind in ("mask", "additive_mask"):
            if len(self.numbers) != 1 or not is_number(self.numbers[0]) or not 0 < self.numbers[0] <= 1:
                return f'keeps {shown(self.numbers)}; write a share above 0 and up to 1, as {self.kind}("batch", "tokens", keep=0.8)'
            if not self.dims:
                return f'has no dims; write those of the mask, as {self.kind}("batch", "tokens")'
        elif self.kind == "probabilities" and not self.dims:
            return 'has no dims; the last is that of the classes: write probabilities("batch", "classes")'
        return ""

    def _wrong_function(self) -> str:
        if self.kind != "drawn":
            return ""
        example = "write a function of the size and a generator, as  draw(lambda size, generator: ...)"
        if not callable(self.function):
            return f"is drawn by {shown(self.function)}; {example}"
        if not takes(self.function, "size", "generator"):
            return f"is drawn by a function that takes {parameters(self.function)}; {example}"
        return ""


def randn(*dims: str | int, requires_grad: bool = True) -> Draw:
    """An input of standard normal numbers: `randn("batch", "width")`, `randn("batch", 1, 28, 28)`."""
    return Draw(dims, "normal", requires_grad=requires_grad)


def positive(*dims: str | int, requires_grad: bool = True) -> Draw:
    """An input of positive numbers, evenly spread from 0.1 to 2: `positive("batch", "width")`."""
    return Draw(dims, "positive", requires_grad=requires_grad)


def uniform(*dims: str | int, low: float, high: float, requires_grad: bool = True) -> Draw:
    """An input of numbers evenly spread from low to high: `uniform("batch", "width", low=-1, high=1)`."""
    return Draw(dims, "uniform", numbers=(low, high), requires_grad=requires_grad)


def complex_randn(*dims: str | int, requires_grad: bool = True) -> Draw:
    """An input of complex standard normal numbers.  Half types have no complex one: there it is of complex64."""
    return Draw(dims, "complex", requires_grad=requires_grad)


def probabilities(*dims: str | int, requires_grad: bool = True) -> Draw:
    """An input of probabilities: positive, and their sum over the last dimension is 1."""
    return Draw(dims, "probabilities", requires_grad=requires_grad)


def integers(*dims: str | int, below: str | int) -> Draw:
    """An input of whole numbers in [0, below), as indices or class labels: `integers("batch", below="classes")`."""
    return Draw(dims, "integers", below)


def one_hot(*dims: str | int, classes: str | int) -> Draw:
    """An input of zeros with a single 1 in each row of a last dimension of `classes`, in the dtype of the point, without a gradient."""
    return Draw(dims, "one_hot", classes, requires_grad=False)


def lengths(*dims: str | int, most: str | int) -> Draw:
    """An input of whole numbers from 1 to `most`, the longest first: the lengths of sequences, `lengths("batch", most="tokens")`."""
    return Draw(dims, "lengths", most)


def mask(*dims: str | int, keep: float = 0.8) -> Draw:
    """A boolean input, True for the share `keep` of places, and for the first of each row: a row without one has no softmax."""
    return Draw(dims, "mask", numbers=(keep,))


def additive_mask(*dims: str | int, keep: float = 0.8) -> Draw:
    """An input of 0 where `mask` is True and -infinity elsewhere, in the dtype of the point, without a gradient."""
    return Draw(dims, "additive_mask", numbers=(keep,), requires_grad=False)


def draw(function: Function, count: int = 1, requires_grad: bool = True) -> "Draw | tuple[Draw, ...]":
    """An input that `function(size, generator)` draws; with a count, so many that one call of it draws together.

    Numbers with a fraction are brought to the dtype of the point, and take part in backward.
    """
    if not is_size(count):
        raise Mistake(f"draw: count is {shown(count)}; write how many tensors the function returns, as draw(function, 2)")
    found = tuple(Draw((), "drawn", function=function, place=place, of=count, requires_grad=requires_grad) for place in range(count))
    return found if count > 1 else found[0]


def draws_of(argument: object, name: str = "") -> Iterator[tuple[str, Draw]]:
    """The tensors of an argument, in order, each with the name that it has inside one called `name`."""
    if isinstance(argument, Draw):
        yield name, argument
    elif isinstance(argument, list | tuple):
        for index, each in enumerate(argument):
            yield from draws_of(each, f"{name}[{index}]")
    elif isinstance(argument, Mapping):
        for key, each in argument.items():
            yield from draws_of(each, f"{name}[{key!r}]")


def wrong_argument(name: str, argument: object, dimensions: Mapping[str, object]) -> str:
    """What is wrong with an argument of that name, as a sentence; "" where nothing is."""
    if isinstance(argument, Draw):
        wrong = argument.wrong()
        return f"{name} {wrong}" if wrong else ""
    held: list[tuple[object, object]] = []
    if isinstance(argument, list | tuple):
        held = list(enumerate(argument))
    elif isinstance(argument, Mapping):
        held = list(argument.items())
    elif type(argument) not in (*PLAIN, bool) or argument in dimensions:
        return f'{name} is {shown(argument)}; say how it is drawn, as randn("batch", "width")'
    return next(filter(None, (wrong_argument(f"{name}[{key!r}]", each, dimensions) for key, each in held)), "")


def is_keyword(name: object) -> bool:
    """Whether this can be the name of an argument."""
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
