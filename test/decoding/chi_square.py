"""Pearson's test of counts, without SciPy."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping

SMALLEST_EXPECTED = 5.0


def p_value(drawn: Iterable[Hashable], exact: Mapping[Hashable, float]) -> float:
    """How likely draws from `exact` are to differ from it at least as much as `drawn` do; 0 for the impossible.

    Cells in which fewer than five draws are expected count as one.
    """
    counts = dict.fromkeys(exact, 0)
    for cell in drawn:
        if not exact.get(cell):
            return 0.0
        counts[cell] += 1
    n = sum(counts.values())
    cells, rare_count, rare_expected = [], 0, 0.0
    for cell, probability in exact.items():
        if n * probability >= SMALLEST_EXPECTED:
            cells.append((counts[cell], n * probability))
        else:
            rare_count, rare_expected = rare_count + counts[cell], rare_expected + n * probability
    if rare_expected >= SMALLEST_EXPECTED:
        cells.append((rare_count, rare_expected))
    statistic = sum((count - expected) ** 2 / expected for count, expected in cells)
    return survival(statistic, len(cells) - 1)


def survival(statistic: float, degrees: int) -> float:
    """The chance of a chi-square variable of so many degrees of freedom to be above `statistic`."""
    half = statistic / 2
    chance, exponent = (math.exp(-half), 1.0) if degrees % 2 == 0 else (math.erfc(math.sqrt(half)), 0.5)
    while exponent < degrees / 2 and half > 0:
        chance += math.exp(exponent * math.log(half) - half - math.lgamma(exponent + 1))
        exponent += 1
    return min(chance, 1.0)
