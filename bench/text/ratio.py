"""A ratio as text, the same in the terminal and on the page."""

import math

SMALLEST = 0.00995  # a ratio below is written as one over a whole number


def ratio(value: float | None) -> str:
    """Two decimals, for the noise floor is never below 1 %; fewer where the number is large, 0.035 or 1/1024 where it is small.

    "" where it is not known.
    """
    if value is None or not math.isfinite(value):
        return ""
    if 0 < value < SMALLEST:
        return f"1/{1 / value:.0f}" if value > 1e-6 else f"{value:.1e}"
    if value < 0.0995:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
