"""How a share is written, everywhere: `88 %`, with a space, and never all or nothing where it is not."""

from __future__ import annotations

import math


def percent(share: float) -> str:
    """In a sentence: without a fraction."""
    if not math.isfinite(share):
        return "not defined"
    if 0 < share <= 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{share * 100:.0f} %"


def fine_percent(share: float) -> str:
    """Where it stands alone as a number: three significant digits."""
    if not math.isfinite(share):
        return "not defined"
    if 0 < share < 1e-3:
        return "< 0.1 %"
    return "> 99.9 %" if 0.9995 <= share < 1 else f"{share * 100:.3g} %"
