"""Answers that follow a grammar: the constrained target's own tokens, however they are drafted and verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoints
import torch
from constrained import ACTION, IMAGES, PROMPT, alone, is_action, make_instructed_pair

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.rejection import SampledDraft, draft_token, judge_sampled, resample
from spec_decode_ros.decoding.tree import merge, path
from spec_decode_ros.models.drafter import HfDrafter
from spec_decode_ros.models.exits import ExitAdapter, Exits
from spec_decode_ros.models.interfaces import ExitFigures
from spec_decode_ros.models.lookup import LookupDrafter
from spec_decode_ros.models.pair import load_pair, load_verifier
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.models.structured_outputs import CompiledGrammar, apply_bitmask
from spec_decode_ros.models.verifier import HfVerifier

pytest.importorskip("xgrammar", reason="xgrammar is not installed: constrained answers need it")

SAMPLINGS = (Sampling(), Sampling(1.5, seed=7), Sampling(1.5, 20, 0.95, seed=8))
DRAWS = 4000
WARM = Sampling(temperature=1.3, top_k=12, top_p=0.9, seed=4, sampler="rejection")


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_instructed_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def models(pair_file: Path) -> tuple[HfDrafter, HfVerifier]:
    drafter, verifier = load_pair(pair_file)
    assert isinstance(drafter, HfDrafter)
    return drafter, verifier


def test_every_answer_of_a_random_instructed_target_is_an_action(
    models: tuple[HfDrafter, HfVerifier],
) -> None:
    _, verifier = models
    texts = {verifier.decode(alone(verifier, Sampling(1.5, seed=seed))) for seed in range(60)}
    assert len(texts) > 20 and all(map(is_action, texts))


def test_without_the_grammar_they_are_not(pair_file: Path) -> None:
    free = load_verifier(tiny_checkpoints.write_pair(pair_file.parent / "target", draft=".", target="."))
    session = free.prepare(PROMPT, IMAGES)
    assert not free.grammar
    assert not is_action(free.decode(session.verify((), alone(free, Sampling())[:5], Sampling())))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_drafts_of_any_width_give_the_constrained_targets_own_tokens(
    models: tuple[HfDrafter, HfVerifier], sampling: Sampling
) -> None:
    _, verifier = models
    truth = alone(verifier, sampling)
    rng = np.random.default_rng(3)
    for _ in range(12):
        session = verifier.prepare(PROMPT, IMAGES)
        said: list[int] = []
        while len(said) < len(truth):
            draft = truth[len(said) : len(said) + int(rng.integers(6))]
            if draft and rng.random() < 0.6:
                draft[int(rng.integers(len(draft)))] = int(rng.integers(80))
            choices = session.verify(said, draft, sampling)
            right = next((i for i, token in enumerate(draft) if choices[i] != token), len(draft))
            said += choices[: right + 1]
        assert said[: len(truth)] == truth


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_each_node_of_a_tree_gets_what_its_branch_gets_alone(
    models: tuple[HfDrafter, HfVerifier], sampling: Sampling
) -> None:
    _, verifier = models
    truth = alone(verifier, sampling)
    other = alone(verifier, Sampling(1.5, seed=99))
    tree = merge([other[:4], [*truth[:2], 20, 30], truth[:5]], 16)
    assert not tree.is_line
    choices = verifier.prepare(PROMPT, IMAGES).verify_tree((), tree, sampling)
    for node in range(len(tree)):
        branch = [tree.tokens[above] for above in path(tree, node)]
        assert verifier.prepare(PROMPT, IMAGES).verify((), branch, sampling)[-1] == choices[1 + node]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_draft_and_its_alternatives_follow_the_grammar(
    models: tuple[HfDrafter, HfVerifier], sampling: Sampling
) -> None:
    drafter, _ = models
    grammar = drafter.model.grammar
    assert grammar is not None
    session, matcher = drafter.open(PROMPT, IMAGES), grammar.matcher()
    tokens: list[int] = []
    alternatives = 0
    for token in session.draft((), sampling):
        if session.runner_up is not None:
            alternatives += 1
            assert matcher.accepts([*tokens, session.runner_up[0]])
        tokens.append(token)
    assert alternatives and is_action(drafter.decode(tokens))
    requests = [(drafter.open(PROMPT, IMAGES), tokens[:start], sampling) for start in (0, 3)]
    whole, rest = drafter.draft_many(requests, 99)
    assert whole == tokens and rest == tokens[3:]


def test_early_exits_foretell_and_draft_within_the_grammar(pair_file: Path) -> None:
    verifier = load_verifier(pair_file)
    adapter = ExitAdapter(64, 16)
    verifier.early_exits = Exits(verifier.model, [adapter], [ExitFigures(0, 0.5, 0.5, 0.5, 0.5)])
    assert verifier.model.grammar is not None
    matcher = verifier.model.grammar.matcher()
    heard: list[tuple[tuple[int, ...], tuple[float, ...]]] = []
    for sampling in SAMPLINGS:
        truth = alone(verifier, sampling)
        session = verifier.prepare(PROMPT, IMAGES)
        session.verify((), truth[:-1], sampling, lambda *early: heard.append(early))
        choices, confidences = heard.pop()
        for place, (choice, confidence) in enumerate(zip(choices, confidences, strict=True)):
            assert matcher.accepts([*truth[:place], choice])
            assert 0 < confidence <= 1
        drafted = session.self_draft(truth[:2], 40, sampling)
        assert is_action(verifier.decode([*truth[:2], *drafted]))


def test_rejection_sampling_has_the_constrained_distributions_on_both_sides(
    models: tuple[HfDrafter, HfVerifier],
) -> None:
    drafter, verifier = models
    grammar = verifier.model.grammar
    assert grammar is not None
    drafted = list(drafter.open(PROMPT, IMAGES).draft_sampled((), WARM))
    tokens = [each.token for each in drafted]
    assert is_action(drafter.decode(tokens))
    found = verifier.prepare(PROMPT, IMAGES).distributions((), tokens[:-1], WARM)
    session = verifier.prepare(PROMPT, IMAGES)
    for place, (q, p) in enumerate(zip(drafted, found, strict=True)):
        logits = session.sequence.model.run([session.sequence.plan(tokens[:place], 1)])
        session.sequence.passed()
        allowed = set(torch.nonzero(logits[0].isfinite()).flatten().tolist())
        assert 0 < len(allowed) < verifier.model.text.size
        assert set(p.tokens.tolist()) <= allowed and set(q.distribution.tokens.tolist()) <= allowed
        assert p.probabilities.sum() == pytest.approx(1.0)
        assert all(grammar.matcher().accepts([*tokens[:place], token]) for token in p.tokens.tolist())


def test_rejection_sampling_gives_the_constrained_targets_distribution(
    models: tuple[HfDrafter, HfVerifier],
) -> None:
    drafter, verifier = models
    before = drafter.encode("vx 0.4 wz")
    row = drafter.open(PROMPT, IMAGES).sequence.logits(before, 1)[0].numpy()
    session = verifier.prepare(PROMPT, IMAGES)
    (p,) = session.distributions(before, (), Sampling(1.5, sampler="rejection"))
    counts, rejected = dict.fromkeys(p.tokens.tolist(), 0), 0
    for seed in range(DRAWS):
        sampling = Sampling(1.5, seed=seed, sampler="rejection")
        drafted = draft_token(row, len(before), sampling)
        draft = SampledDraft((drafted.token,), (drafted.probability,), bonus=False)
        result = judge_sampled(draft, [p, p], len(before), sampling, verifier.eos_ids, 9, k=2)
        rejected += not result.tokens
        counts[
            result.tokens[0]
            if result.sparse is None
            else resample(result.sparse, drafted.distribution, len(before), sampling)
        ] += 1
    assert rejected > DRAWS / 50
    expected = p.probabilities * DRAWS
    chi2 = float((np.square(np.array([*counts.values()]) - expected) / expected).sum())
    assert chi2 < len(expected) + 5 * (2 * len(expected)) ** 0.5


def free_places(drafter: HfDrafter, tokens: list[int]) -> list[int]:
    """Where the grammar leaves a choice."""
    assert drafter.model.grammar is not None
    rows = drafter.model.grammar.matcher().bitmask(tokens[:place] for place in range(len(tokens)))
    allowed = np.unpackbits(rows.view(np.uint8), axis=1).sum(axis=1)
    return np.flatnonzero(allowed > 1).tolist()


@pytest.mark.parametrize("sampling", [*SAMPLINGS, WARM])
def test_a_forced_token_costs_the_draft_model_no_pass(
    models: tuple[HfDrafter, HfVerifier], sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafter, _ = models
    decoder = drafter.model.decoder
    passes, run = [], type(decoder).run
    monkeypatch.setattr(type(decoder), "run", lambda *args, **more: (passes.append(1), run(*args, **more))[1])
    session = drafter.open(PROMPT, IMAGES)
    if sampling.separate:
        drafted = list(session.draft_sampled((), sampling))
        tokens = [each.token for each in drafted]
        free = free_places(drafter, tokens)
        assert all(drafted[place].probability == 1 for place in range(len(tokens)) if place not in free)
    else:
        tokens = list(session.draft((), sampling))
        free = free_places(drafter, tokens)
    assert 0 not in free and len(free) < len(tokens) - 1
    assert len(passes) == 1 + len(free)  # the first is over the prompt
    if not sampling.separate:
        passes.clear()
        assert drafter.draft_many([(drafter.open(PROMPT, IMAGES), (), sampling)], 99) == [tokens]
        assert len(passes) == 1 + len(free)


def test_the_target_jumps_over_what_is_forced(models: tuple[HfDrafter, HfVerifier], pair_file: Path) -> None:
    drafter, verifier = models
    session = verifier.prepare(PROMPT, IMAGES)
    encode, (end,) = drafter.encode, verifier.eos_ids
    for committed, forced in (
        ("", "vx"),
        ("vx 0.4", "wz"),
        ("vx 0.4 wz 0.2", "|"),
        ("vx 0.4 wz", ""),
        ("vx 0.4 wz 0.2 | red chair left", ""),
    ):
        assert session.jump_forward(encode(committed)) == tuple(encode(forced))
    assert session.jump_forward(encode("vx 0.0 wz 0.0 | sit")) in ((), (*encode("down"), end))
    assert session.jump_forward(encode("vx 0.4 wz 0.2 | walking 1.5")) == (end,)
    assert session.jump_forward([*encode("vx 0.4 wz 0.2 | walking 1.5"), end]) == ()
    free = load_verifier(replace(load_pair_config(pair_file), grammar="none"))
    assert free.prepare(PROMPT, IMAGES).jump_forward(encode("vx 0.4")) == ()


def test_a_lookup_copies_only_what_the_grammar_allows(models: tuple[HfDrafter, HfVerifier]) -> None:
    drafter, _ = models
    lookup = LookupDrafter(drafter.model.text, None, 1, drafter.model.grammar)
    answer = drafter.encode("vx 0.4")
    copied = list(lookup.open("vx 0.4 wz 0.2 red | red chair").draft(answer, Sampling()))
    assert drafter.decode(copied) == "wz 0.2"
    assert lookup.grammar == drafter.grammar


def test_sides_with_one_vocabulary_share_what_was_compiled(models: tuple[HfDrafter, HfVerifier]) -> None:
    drafter, verifier = models
    assert drafter.model.grammar and verifier.model.grammar
    assert drafter.model.grammar._compiled is verifier.model.grammar._compiled
    assert drafter.grammar == verifier.grammar == ACTION.fingerprint


def test_a_matcher_follows_its_answer_forward_and_back(models: tuple[HfDrafter, HfVerifier]) -> None:
    drafter, verifier = models
    compiled = CompiledGrammar(ACTION, verifier.model.text)
    encode, (end,) = drafter.encode, drafter.eos_ids
    one, other = encode("vx 0.4 wz 0.2 | walking 1.5"), encode("vx 0.0 wz 0.0 | sit down")
    matcher = compiled.matcher()
    for answer in (
        one,
        other,
        one[:2],
        [*one, end],
        [*one, end, 5],
        [*one, 10**6],
        [*one, -1],
        [end],
        [],
        other,
    ):
        fresh = compiled.matcher()
        assert matcher.accepts(answer) == fresh.accepts(answer)
        assert np.array_equal(matcher.bitmask([answer]), fresh.bitmask([answer]))
    rows = matcher.bitmask([one, [*one, end], [5, 5], other])
    ended, free = rows[1], rows[2]
    assert (ended == -1).all() and (free == -1).all()
    logits = torch.zeros(4, verifier.model.text.size)
    apply_bitmask(logits, rows)
    assert torch.nonzero(logits[0].isfinite()).flatten().tolist() == [end]
    assert bool(logits[1:3].isfinite().all())


def test_a_draft_with_a_reduced_vocabulary_proposes_what_is_allowed_where_it_has_nothing_to_say() -> None:
    bitmask = np.array([[0b0110], [0b0110]], dtype=np.int32)
    nothing = float("-inf")
    logits = torch.tensor([[5.0, nothing, nothing, 1.0], [5.0, nothing, 2.0, 1.0]])
    apply_bitmask(logits, bitmask)
    assert logits.tolist() == [[nothing, 0.0, 0.0, nothing], [nothing, nothing, 2.0, nothing]]
