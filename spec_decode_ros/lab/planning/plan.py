"""Plans a fleet: GPUs needed to keep a latency goal, region by region and in total, for every method variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from spec_decode_ros.decoding.controller import server_draft_length
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.capacity import predicted_gain
from spec_decode_ros.lab.bench.grid import Cell, World, measurements
from spec_decode_ros.lab.bench.variants import MethodVariant
from spec_decode_ros.lab.planning.library import VARIANTS, Library
from spec_decode_ros.lab.planning.queue import PlannedServer
from spec_decode_ros.lab.planning.regions import Fleet, Region
from spec_decode_ros.lab.planning.site import LatencyGoal, Mixture, SimulationSettings, Site

TOTAL = "total"


@dataclass(frozen=True)
class Need:
    """GPUs for the robots of one region, or of all (`region` is `TOTAL`); `fleet` is the number of robots in all.

    `gpus` is None where no number of them keeps the goal; the percentiles of `ttva_ms` and the utilisation are then those
    with a GPU per robot. `cost` is per robot and hour.
    """

    fleet: int
    region: str
    variant: MethodVariant
    robots: int
    gpus: int | None
    p50_ms: float
    p95_ms: float
    utilisation: float
    cost: float | None


@dataclass(frozen=True)
class Gain:
    """Robots per GPU in one region, over those with `colocated`.

    `predicted` is 1 + gamma * t_draft / t_verify (arXiv 2606.25091), for a server that serves one robot at a time.
    `simulated` is by variant; None where one of the two keeps the goal with no number of GPUs.
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
    progress: Callable[[Iterable[MethodVariant]], Iterable[MethodVariant]] = iter,
) -> tuple[list[Need], list[Gain]]:
    """What each number of robots needs, and the gains over `colocated`.

    The round-trip time of `cell` is replaced by that of each region. `progress` wraps the variants, to show progress.
    """
    if not robots or min(robots) < 1 or max(robots) > 10_000_000:
        raise SpecDecodeError("a fleet has from 1 to 10,000,000 robots")
    needs: list[Need] = []
    per_gpu: dict[tuple[str, MethodVariant], int] = {}
    for variant in progress(VARIANTS):
        sites = {}
        for region in fleet.regions:
            here = replace(cell, rtt_ms=region.rtt_ms)
            library = Library(variant, here, world, setting.traces)
            site = Site(library, PlannedServer.of(here, world), goal, setting)
            sites[region.name], per_gpu[region.name, variant] = site, site.robots_per_gpu
        for total in robots:
            needs += _needs(fleet, variant, sites, total)
    gains = [_gain(region, replace(cell, rtt_ms=region.rtt_ms), world, per_gpu) for region in fleet.regions]
    return needs, gains


def _needs(fleet: Fleet, variant: MethodVariant, sites: Mapping[str, Site], total: int) -> Iterator[Need]:
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
    needed, cost_ = (servers, price / total) if None not in gpus else (None, None)
    yield Need(total, TOTAL, variant, total, needed, *_shown(everywhere), cost_)


def _shown(mixture: Mixture) -> tuple[float, float, float]:
    return mixture.ttva_ms(0.5), mixture.ttva_ms(0.95), mixture.utilisation


def _gain(region: Region, cell: Cell, world: World, per_gpu: Mapping[tuple[str, MethodVariant], int]) -> Gain:
    now = measurements(cell, world)
    drafted = server_draft_length(now)
    predicted = predicted_gain(
        drafted, now.server_draft_ms or 0.0, world.step_ms + drafted * world.per_token_ms
    )
    robots = {variant.label: per_gpu[region.name, variant] for variant in VARIANTS}
    base = robots["colocated"]
    simulated = {label: count / base if base and count else None for label, count in robots.items()}
    return Gain(region.name, predicted, simulated)
