"""The one exception for what a user can mend.  Not for faults of layerbench (those are asserts) or of a layer (those become records)."""


class Mistake(ValueError):
    """Carries one sentence: what was found, what was expected, what to type.  The command line prints it and exits with 2."""
