"""What is wrong with a layer or a command, in words of ours.  Not for faults of layerbench itself: those are asserts."""


class Finding(Exception):
    """Its text is the whole reason.  What a layer's own code raises is shown with the name of its class; this is not."""


class DeviceLost(BaseException):
    """An accelerator answers no more in this process, whatever is asked of it.  Only a new process can go on, so nobody may catch it."""


class Mistake(Finding, ValueError):
    """What the user can fix, in one sentence: what was found, what was expected, what to type.  The command line exits with 2."""


class NoCounters(Finding):
    """Why hardware counters cannot be had.  What else was asked for goes on without them."""
