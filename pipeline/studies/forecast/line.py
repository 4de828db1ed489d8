"""A line through two measured times: what is fixed and what grows, as far as the two can tell."""

from __future__ import annotations

from dataclasses import dataclass

#: By how much of its time a run differs from the same run again, on a machine with other work.
_NOISE = 0.1


@dataclass(frozen=True)
class Line:
    """Time in seconds as `fixed + slope * size`.

    Attributes
    ----------
    told : whether the two times tell the growth; otherwise it is the least (sizes far apart) or the most (alike) that
        they allow.
    """

    fixed: float
    slope: float
    told: bool

    def at(self, size: float) -> float:
        return self.fixed + self.slope * size


def line_through(one: tuple[float, float], other: tuple[float, float]) -> Line:
    """The line through two points (size, seconds), kept within what a stage can do.

    Neither part of it is negative. So no larger size takes less than either measured time, and none takes more than in
    proportion to the longer of them. A growth that noise could have made, or hidden, counts as the growth that noise
    could hide. Where the sizes are alike, that is growth in proportion, with nothing fixed. Of no work, all is fixed.
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
