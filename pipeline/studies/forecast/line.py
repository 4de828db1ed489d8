"""Fit a line through two measured times: the fixed part and the growth, as far as the two can tell."""

from __future__ import annotations

from dataclasses import dataclass

#: The relative difference between repeated runs on a machine with other load.
_NOISE = 0.1


@dataclass(frozen=True)
class Line:
    """Time in seconds as `fixed + slope * size`.

    Attributes
    ----------
    told : whether the two times determine the growth; otherwise it is the least (if sizes are far apart) or the most
        (if they are alike) that they allow.
    """

    fixed: float
    slope: float
    told: bool

    def at(self, size: float) -> float:
        return self.fixed + self.slope * size


def line_through(one: tuple[float, float], other: tuple[float, float]) -> Line:
    """Return the line through two points (size, seconds), kept within what a stage can do.

    Neither part is negative: no larger size takes less than either measured time, and none takes more than in
    proportion to the longer one. If noise could have made or hidden the growth, the growth is set to what noise could
    hide. If the sizes are alike, growth is in proportion and nothing is fixed. If there is no work, everything is
    fixed.
    """
    (low, earlier), (high, later) = sorted((one, other))
    longest = max(earlier, later, 0.0)
    if high <= 0:
        return Line(longest, 0.0, False)
    most, apart = longest / high, high - low
    if apart <= _NOISE * high:
        return Line(0.0, most, False)
    slope, hidden = (later - earlier) / apart, _NOISE * longest / apart
    kept = min(max(slope, hidden), most)
    return Line(max(0.0, longest - kept * high), kept, slope >= hidden)
