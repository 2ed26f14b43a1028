"""Reads metrics as Prometheus does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from spec_decode_ros.server.status_server import read_page

WAIT_S = 20.0


class Samples(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Samples by name and labels."""

    def value(self, name: str, **labels: str) -> float:
        """The one sample with exactly these labels."""
        return self[name, frozenset(labels.items())]

    def by(self, label: str, name: str) -> dict[str, float]:
        """The samples of `name` summed by what `label` says, where they have it."""
        sums: dict[str, float] = {}
        for (each, labels), value in self.items():
            key = dict(labels).get(label)
            if each == name and key is not None:
                sums[key] = sums.get(key, 0.0) + value
        return sums


def samples(collect: Callable[[], Iterable[Metric]]) -> Samples:
    """What a collector yields; a name must be there once, and so must a sample."""
    families = list(collect())
    names = [family.name for family in families]
    assert len(set(names)) == len(names), "the samples of a metric must be together"
    found = Samples()
    for sample in (sample for family in families for sample in family.samples):
        key = (sample.name, frozenset(sample.labels.items()))
        assert key not in found, "a sample is there twice"
        found[key] = sample.value
    return found


def scrape(url: str) -> Samples:
    """What the page of metrics has."""
    ok, text = read_page(f"{url}/metrics", WAIT_S)
    assert ok, text
    return samples(lambda: text_string_to_metric_families(text))
