"""What the driver of an NVIDIA GPU says of its state: clock, energy, power limit, and why it runs slower than it could.

Through NVML, by the package nvidia-ml-py, which is optional: without it, or on another maker's device, nothing is known.
"""

import functools
from dataclasses import dataclass
from typing import Any

# Reasons of nvmlDeviceGetCurrentClocksEventReasons, named as in NVIDIA's NVML API reference.
THROTTLED = {0x08: "hardware slowdown", 0x20: "too hot (software)", 0x40: "too hot (hardware)", 0x80: "power brake"}
POWER_LIMIT = 0x04  # the power limit holds the clock down: a regime, not an accident, since a large product is always under it
NO_COUNTER = "this device does not count its energy"


@dataclass(frozen=True)
class Health:
    """A device at one moment.  `throttled` is why it was slower than its power limit allows, "" where it was not."""

    mhz: int = 0  # of the multiprocessors; 0: not known
    throttled: str = ""
    power_limited: bool = False  # its power limit held the clock down


class Unknown:
    """No NVML: nothing is known."""

    missing = "not known: install nvidia-ml-py to have clocks, power and energy"

    def look(self) -> Health:
        return Health()

    def joules(self) -> float | str:
        return self.missing

    def facts(self) -> dict[str, str]:
        return {"GPU clocks and power": self.missing}


class Nvml:
    """One device, by the UUID that torch gives it, since NVML numbers devices another way."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    def look(self) -> Health:
        """Takes some tens of microseconds."""
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        words = [word for bit, word in THROTTLED.items() if reasons & bit]
        return Health(self._clock() or 0, words[0] if words else "", bool(reasons & POWER_LIMIT))

    def joules(self) -> float | str:
        """The counter of energy of the whole board, or why there is none.  It moves every 20 to 100 ms; a look takes some milliseconds."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return NO_COUNTER if millijoules is None else float(millijoules) / 1e3

    def facts(self) -> dict[str, str]:
        """What does not move while a run lasts, in words."""
        nvml = self._nvml
        limit, usual = self._ask("nvmlDeviceGetPowerManagementLimit"), self._ask("nvmlDeviceGetPowerManagementDefaultLimit")
        most = self._ask("nvmlDeviceGetMaxClockInfo", argument=nvml.NVML_CLOCK_SM)
        found = {"GPU driver": str(nvml.nvmlSystemGetDriverVersion())}
        if limit:
            found["GPU power limit"] = f"{limit / 1e3:.0f} W, by default {usual / 1e3:.0f} W" if usual else f"{limit / 1e3:.0f} W"
        if most:
            found["GPU clock, at most"] = f"{most} MHz"
        return found

    def _clock(self) -> int | None:
        return self._ask("nvmlDeviceGetClockInfo", argument=self._nvml.NVML_CLOCK_SM)

    def _ask(self, *names: str, argument: int | None = None) -> Any:
        """The answer of the first function that this NVML has; None where the device does not support it."""
        for name in names:
            if function := getattr(self._nvml, name, None):
                try:
                    return function(self._handle) if argument is None else function(self._handle, argument)
                except self._nvml.NVMLError:
                    return None
        return None


@functools.cache
def of(uuid: str) -> Nvml | Unknown:
    """The device with that UUID, as torch writes it: with or without GPU- before it."""
    try:
        import pynvml  # type: ignore[import-not-found, unused-ignore]  # nobody has to have it

        pynvml.nvmlInit()
        return Nvml(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"))
    except Exception:  # noqa: BLE001  no package, no driver, no such device: all the same to us
        return Unknown()
