"""A variant: one way of writing a layer, and the devices that it can run on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from .fields import is_module, shown, takes

if TYPE_CHECKING:
    from torch import Tensor, nn

Devices = Literal["any", "cpu", "gpu"]
ANY: Devices = "any"
CPU: Devices = "cpu"
GPU: Devices = "gpu"  # on a machine without one, Triton variants are proved under Triton's interpreter


@dataclass(frozen=True)
class Variant:
    """One way of writing the layer.

    module   what `Layer.build` calls: an nn.Module class, or any function that returns a module.
    compile  wrap the built module in torch.compile.
    devices  ANY, CPU or GPU.
    state    where its parameters are named or laid out otherwise than the reference's: the reference's names -> its own; or a function of
             the reference's state_dict that returns its own, by operations that autograd knows, as torch.cat.
    """

    module: "Callable[..., nn.Module]"
    compile: bool = False
    devices: Devices = ANY
    state: "Mapping[str, str] | Callable[[dict[str, Tensor]], dict[str, Tensor]] | None" = None

    def wrong(self) -> str:
        """What is wrong with it and what to write, as the end of a sentence; "" where nothing is."""
        if is_module(self.module):
            if (inner := getattr(self.module, "_orig_mod", None)) is not None:  # as torch.compile keeps it
                return f"is compiled already; give the class, as Variant({type(inner).__name__}, compile=True)"
            name = type(self.module).__name__
            return f"is {shown(self.module)}; give the class, as Variant({name}), or a function that makes one"
        if not callable(self.module):
            return f"has module {shown(self.module)}; give a class, as Variant(nn.Linear), or a function that returns a module"
        if not isinstance(self.compile, bool):
            return f"has compile={shown(self.compile)}; write True or False"
        if self.devices not in get_args(Devices):
            return f"has devices={shown(self.devices)}; write ANY, CPU or GPU"
        names = isinstance(self.state, Mapping) and all(isinstance(each, str) for pair in self.state.items() for each in pair)
        if self.state is not None and not names and not (callable(self.state) and takes(self.state, "state")):
            return f"has state={shown(self.state)}; write a dict of names, as {{'weight': 'w'}}, or  lambda state: {{...}}"
        return ""
