"""How many GPUs a fleet needs to keep a goal, region by region and in all, for every method and objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spec_decode_ros.decoding.controller import server_draft_length
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.grid import Cell, World, measurements
from spec_decode_ros.lab.planning.library import VARIANTS, Library, Variant
from spec_decode_ros.lab.planning.regions import Fleet, Region
from spec_decode_ros.lab.planning.server import PlannedServer
from spec_decode_ros.lab.planning.site import LatencyGoal, Mixture, SimulationSettings, Site


@dataclass(frozen=True)
class Need:
    """What some robots of one region, or all of a fleet, need.

    Attributes:
        fleet: robots in all regions.
        region: its name; `TOTAL` for all of them.
        robots: in this region.
        gpus: how many; None where no number of them keeps the goal.
        p50_ms, p95_ms: of `ttva_ms` with so many, or with a GPU for each robot where the goal is out of reach.
        utilisation: of these GPUs.
        cost: of a robot for an hour.
    """

    fleet: int
    region: str
    variant: Variant
    robots: int
    gpus: int | None
    p50_ms: float
    p95_ms: float
    utilisation: float
    cost: float | None


TOTAL = "total"


@dataclass(frozen=True)
class Gain:
    """What drafting on the robots is worth in GPUs, against `colocated`, in one region.

    Attributes:
        predicted: 1 + gamma * t_draft / t_verify (arXiv 2606.25091), for a server that does one thing at a time.
        simulated: robots per GPU over those of `colocated`; None where one of them keeps the goal with no number of GPUs.
    """

    region: str
    predicted: float
    simulated: dict[str, float | None]


def plan_fleet(
    fleet: Fleet,
    cell: Cell,
    world: World,
    robots: Sequence[int],
    goal: LatencyGoal,
    setting: SimulationSettings,
    progress: Callable[[Iterable[Variant]], Iterable[Variant]] = iter,
) -> tuple[list[Need], list[Gain]]:
    """What each number of robots needs, region by region and in all, for every method and objective.

    Args:
        cell: acceptance and draft time of every robot; the round-trip time is the region's.
        progress: is given the variants and gives them back, one as each is looked at.
    """
    if not robots or min(robots) < 1 or max(robots) > 10_000_000:
        raise SpecDecodeError("a fleet has from 1 to 10,000,000 robots")
    needs: list[Need] = []
    per_gpu: dict[tuple[str, Variant], int] = {}
    for variant in progress(VARIANTS):
        sites = {}
        for region in fleet.regions:
            here = replace(cell, rtt_ms=region.rtt_ms)
            library = Library(variant, here, world, setting.traces)
            server = PlannedServer.of(here, world)
            sites[region.name] = site = Site(library, server, goal, setting)
            per_gpu[region.name, variant] = site.robots_per_gpu
        for total in robots:
            needs += _needs(fleet, variant, sites, total)
    gains = [_gain(region, replace(cell, rtt_ms=region.rtt_ms), world, per_gpu) for region in fleet.regions]
    return needs, gains


def _needs(fleet: Fleet, variant: Variant, sites: Mapping[str, Site], total: int) -> Iterator[Need]:
    shared = fleet.robots(total)
    parts: list[tuple[float, Mixture]] = []
    gpus: list[int | None] = []
    servers, busy, price = 0, 0.0, 0.0
    for region in fleet.regions:
        count = shared[region.name]
        if not count:
            continue
        needed = sites[region.name].gpus_needed(count)
        bought = needed or count
        mixture = sites[region.name].with_gpus(count, bought)
        cost = bought * region.gpu_hour / count
        yield Need(total, region.name, variant, count, needed, *_shown(mixture), cost if needed else None)
        gpus.append(needed)
        servers, busy, price = servers + bought, busy + bought * mixture.utilisation, price + cost * count
        parts.append((count * mixture.kept, mixture))
    everywhere = replace(Mixture.of(parts), utilisation=busy / servers)
    reachable = None not in gpus
    yield Need(
        total,
        TOTAL,
        variant,
        total,
        servers if reachable else None,
        *_shown(everywhere),
        price / total if reachable else None,
    )


def _shown(mixture: Mixture) -> tuple[float, float, float]:
    return mixture.ttva_ms(0.5), mixture.ttva_ms(0.95), mixture.utilisation


def _gain(region: Region, cell: Cell, world: World, per_gpu: Mapping[tuple[str, Variant], int]) -> Gain:
    now = measurements(cell, world)
    drafted, server_draft_ms = server_draft_length(now), now.server_draft_ms or 0.0
    verify_ms = world.step_ms + drafted * world.per_token_ms
    base = per_gpu[region.name, Variant("colocated")]
    simulated = {
        variant.name: (
            per_gpu[region.name, variant] / base if base and per_gpu[region.name, variant] else None
        )
        for variant in VARIANTS
    }
    return Gain(region.name, 1 + drafted * server_draft_ms / verify_ms, simulated)
