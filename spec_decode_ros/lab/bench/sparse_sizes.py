"""What a rejection costs on the wire: compressed distributions measured against whole ones in fp16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spec_decode_ros.decoding.distribution import warped
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.sparse import bytes_of_full, compress, pack

VOCABULARIES = (49_152, 151_936)
"""SmolLM2's and Qwen2-VL's."""

BUDGETS = (8, 32, 64)

WARPERS = {
    "top-k 50, top-p 0.95": Sampling(1.0, top_k=50, top_p=0.95),
    "none": Sampling(1.0),
}


def measure(rows: Sequence[ArrayLike], sampling: Sampling, k: int) -> tuple[int, int, int, float]:
    """Medians over rows (V,) of logits: packed bytes, tokens sent and possible at all, mass of the rest."""
    figures = []
    for row in rows:
        p = warped(row, sampling)
        sparse = compress(p, k, 0.5)
        figures.append((len(pack(sparse)), len(sparse.tokens), len(p.tokens), sparse.rest))
    size, sent, possible, rest = np.median(np.array(figures), axis=0)
    return round(size), round(sent), round(possible), float(rest)


def zipf_rows(vocabulary: int, count: int = 11) -> Iterator[NDArray[np.float32]]:
    """Stand-ins for a language model's logits: power laws from flat to steep, their ranks shuffled over the ids."""
    rng = np.random.default_rng(vocabulary)
    ranks = np.arange(1, vocabulary + 1)
    for steepness in np.linspace(0.8, 2.0, count):
        yield rng.permutation(-steepness * np.log(ranks)).astype(np.float32)


def table(vocabularies: Sequence[int] = VOCABULARIES) -> str:
    """A Markdown table over vocabularies, warpers and budgets, of `zipf_rows`."""
    lines = [
        "| vocabulary | warpers | possible tokens | K | sent | bytes | bytes of ids and fp16 | whole, fp16 | ratio | rest |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for vocabulary in vocabularies:
        rows = list(zipf_rows(vocabulary))
        whole = bytes_of_full(vocabulary)
        id_bytes = 2 if vocabulary <= 2**16 else 4
        for name, sampling in WARPERS.items():
            for k in BUDGETS:
                size, sent, possible, rest = measure(rows, sampling, k)
                cells = [f"{vocabulary:,}", name, f"{possible:,}", k, sent, size, sent * (id_bytes + 2)]
                cells += [f"{whole:,}", f"{whole / size:,.0f}", f"{rest:.1e}"]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
