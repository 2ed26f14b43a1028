"""How many robots the servers of a region have."""

from __future__ import annotations

import enum
import math

_NODE_RATIO = 1.12
"""Where servers have binomially many robots, the numbers that are simulated are about so far apart."""

_LEAST_CHANCE = 1e-4


class Sticky(str, enum.Enum):
    """Which server a robot stays with."""

    EVEN = "even"  # that with the fewest robots, as `transport.routing` chooses
    RANDOM = "random"  # any: where addresses are handed out by name or by chance


def loads(robots: int, gpus: int, sticky: Sticky) -> list[tuple[int, float]]:
    """How many robots a server has, and with what chance; servers without robots are left out.

    Random numbers of robots stand for those in between, so that a few of them are enough.
    """
    if sticky is Sticky.EVEN:
        least, more = divmod(robots, gpus)
        found = [(least, 1 - more / gpus), (least + 1, more / gpus)]
        return [(number, chance) for number, chance in found if number and chance]
    chances: dict[int, float] = {}
    for number, chance in _binomial(robots, 1 / gpus):
        below, above = _around(number)
        share = (number - below) / (above - below) if above > below else 0.0
        for node, part in ((below, 1 - share), (above, share)):
            chances[node] = chances.get(node, 0.0) + chance * part
    return [(node, chance) for node, chance in sorted(chances.items()) if node and chance > _LEAST_CHANCE]


def _binomial(trials: int, chance: float) -> list[tuple[int, float]]:
    """Outcomes and their probabilities, without those that next to never come."""
    if chance >= 1:
        return [(trials, 1.0)]
    spread = 5 * math.sqrt(trials * chance * (1 - chance)) + 5
    lowest = max(0, math.floor(trials * chance - spread))
    highest = min(trials, math.ceil(trials * chance + spread))
    whole = math.lgamma(trials + 1)
    found = []
    for count in range(lowest, highest + 1):
        ways = whole - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        log = ways + count * math.log(chance) + (trials - count) * math.log1p(-chance)
        found.append((count, math.exp(log)))
    return found


def _around(number: int) -> tuple[int, int]:
    """The simulated numbers of robots on both sides; every number up to 8 is one."""
    above = 8
    if number <= above:
        return number, number
    while above < number:
        below, above = above, max(above + 1, round(above * _NODE_RATIO))
    return (above, above) if above == number else (below, above)
