"""Several sessions in one pass: each gets what it gets alone, whoever is beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tiny_checkpoints
import torch
from families import PROMPTS, Family, pair_of, reserved

from spec_decode_ros.actions.prompt import build_prompt
from spec_decode_ros.decoding.acceptance import judge
from spec_decode_ros.decoding.distribution import Distribution
from spec_decode_ros.decoding.messages import Sampler, Sampling
from spec_decode_ros.decoding.tree import ROOT, Tree, merge
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cached_sequence import CachedSequence, logits_after
from spec_decode_ros.models.drafter import HfDrafter
from spec_decode_ros.models.exits import ExitAdapter, Exits
from spec_decode_ros.models.images import ImageError
from spec_decode_ros.models.interfaces import Choices, ExitFigures, ForwardInput
from spec_decode_ros.models.packed_decoder import PackedDecoder
from spec_decode_ros.models.pair import load_drafter, load_verifier
from spec_decode_ros.models.prompts import prepare
from spec_decode_ros.models.verifier import HfVerifier, HfVerifySession

GREEDY = Sampling()
GUMBEL = Sampling(temperature=1.5, top_k=20, top_p=0.95, seed=7)
REJECTION = Sampling(temperature=0.9, top_k=30, seed=3, sampler=Sampler.REJECTION)
Early = list[tuple[tuple[int, ...], tuple[float, ...]]]


def with_exits(verifier: HfVerifier) -> HfVerifier:
    adapters = []
    for seed in (1, 2):
        adapter = ExitAdapter(verifier.model.embedding.weight.shape[1], 16)
        tiny_checkpoints.scramble(adapter, seed)
        adapters.append(adapter)
    figures = [ExitFigures(layer, 0.5, 0.8, 0.9, 0.5) for layer in (0, 1)]
    return HfVerifier(verifier.model, Exits(verifier.model, adapters, figures))


class Robot:
    """A session and its twin that is always computed alone."""

    def __init__(self, verifier: HfVerifier, prompt: str, images: list[bytes]) -> None:
        self.session: HfVerifySession = verifier.prepare(prompt, images)
        self.twin: HfVerifySession = verifier.prepare(prompt, images)
        self.committed: list[int] = []
        self.early: Early = []
        self.twins_early: Early = []

    def part(self, rng: random.Random) -> ForwardInput:
        """What a robot may ask for."""
        if self.session.not_prefilled and rng.random() < 0.4:
            return ForwardInput(self.session, prefill=rng.randrange(1, self.session.not_prefilled + 3))
        if rng.random() < 0.1:  # the answer begins again
            self.committed = self.committed[: rng.randrange(len(self.committed) + 1)]
        sampling = rng.choice((GREEDY, GREEDY, GUMBEL, REJECTION))
        draft = [rng.randrange(80) for _ in range(rng.choice((0, 0, 1, 3, 3, 7)))]
        if rng.random() < 0.3 and not sampling.separate:
            branches = [draft, [*draft[:1], 5, 6], [rng.randrange(80)]]
            return ForwardInput(
                self.session, list(self.committed), sampling=sampling, tree=merge(branches, 9)
            )

        def on_early(choices: tuple[int, ...], sure: tuple[float, ...]) -> None:
            self.early.append((choices, sure))

        told = on_early if rng.random() < 0.5 else None
        return ForwardInput(self.session, list(self.committed), draft, sampling, on_early=told)

    def twins(self, part: ForwardInput) -> ForwardInput:
        def on_early(choices: tuple[int, ...], sure: tuple[float, ...]) -> None:
            self.twins_early.append((choices, sure))

        return replace(part, session=self.twin, on_early=part.on_early and on_early)

    def go_on(self, part: ForwardInput, choices: Choices | Exception) -> None:
        if part.prefill or part.sampling.separate:
            return
        tokens = ids(choices)
        tree = Tree.line(part.draft) if part.tree is None else part.tree
        node = tree.child(ROOT, tokens[0])
        self.committed = [*part.committed, tokens[0], *(() if node is None else tokens[1 + node : 2 + node])]

    def close(self) -> None:
        self.session.close()
        self.twin.close()


def ids(choices: Choices | Exception) -> list[int]:
    assert not isinstance(choices, Exception), choices
    return [choice for choice in choices if isinstance(choice, int)]


def same(got: Choices | Exception, expected: Choices | Exception) -> None:
    assert not isinstance(got, Exception), got
    assert not isinstance(expected, Exception), expected
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        if isinstance(theirs, Distribution):
            assert isinstance(mine, Distribution)
            assert mine.tokens.tolist() == theirs.tokens.tolist()
            assert np.allclose(mine.probabilities, theirs.probabilities, atol=1e-4)
        else:
            assert mine == theirs


def same_early(got: Early, expected: Early) -> None:
    assert [choices for choices, _ in got] == [choices for choices, _ in expected]
    for (_, mine), (_, theirs) in zip(got, expected, strict=True):
        assert np.allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("slots", [0, 12], ids=["own memory", "slots"])
def test_each_session_gets_what_it_gets_alone(everyone: Family, slots: int) -> None:
    family, verifier = everyone, with_exits(everyone.verifier)
    rng = random.Random(slots)
    robots: list[Robot] = []
    seen: set[int] = set()
    with reserved(verifier, slots, 200):
        for _ in range(25):
            if len(robots) < 5 or (len(robots) < 6 and rng.random() < 0.5):
                robots.append(Robot(verifier, rng.choice(PROMPTS), family.images(rng.randrange(9))))
            asking = rng.sample(robots, rng.randrange(1, len(robots) + 1))
            parts = [robot.part(rng) for robot in asking]
            twins = [robot.twins(part) for robot, part in zip(asking, parts, strict=True)]
            choices = verifier.verify_many(parts)
            expected = [verifier.verify_many([twin])[0] for twin in twins]
            for robot, part, mine, theirs in zip(asking, parts, choices, expected, strict=True):
                same(mine, theirs)
                assert robot.session.not_prefilled == robot.twin.not_prefilled
                robot.go_on(part, mine)
                seen |= set(ids(mine))
            if rng.random() < 0.2:
                robots.pop(rng.randrange(len(robots))).close()
        for robot in robots:
            same_early(robot.early, robot.twins_early)
            robot.close()
    assert len(seen) > 10, "a model that always says the same would prove little"


def test_one_part_that_fails_harms_no_other(family: Family) -> None:
    verifier = family.verifier
    robots = [Robot(verifier, prompt, family.images(number)) for number, prompt in enumerate(PROMPTS)]
    first = [ForwardInput(robot.session, [], [5, 6]) for robot in robots[:3]]
    for robot, part, choices in zip(robots, first, verifier.verify_many(first), strict=False):
        robot.go_on(part, choices)
        robot.twin.verify([], [5, 6], GREEDY)
    room = robots[0].session.answer_room
    parts = [
        ForwardInput(robots[0].session, [5] * (room + 1)),
        ForwardInput(robots[1].session, robots[1].committed, [7, 8]),
        ForwardInput(robots[1].session, [], [9]),
        ForwardInput(robots[2].session, robots[2].committed, [10**9, -1]),
        ForwardInput(object()),  # type: ignore[arg-type]
        ForwardInput(robots[3].session, prefill=5),
    ]
    got = verifier.verify_many(parts)
    assert isinstance(got[0], SpecDecodeError) and "longer than the model's context" in str(got[0])
    same(got[1], robots[1].twin.verify(robots[1].committed, [7, 8], GREEDY))
    same(got[3], robots[2].twin.verify(robots[2].committed, [10**9, -1], GREEDY))
    assert isinstance(got[4], Exception)
    assert got[5] == ()
    if verifier.model.packs:
        assert isinstance(got[2], SpecDecodeError) and "only one input" in str(got[2])
    again = [ForwardInput(robot.session, robot.committed, [3, 4]) for robot in robots]
    for robot, choices in zip(robots, verifier.verify_many(again), strict=True):
        same(choices, robot.twin.verify(robot.committed, [3, 4], GREEDY))


def test_a_pass_that_breaks_off_is_made_up_for(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the pass of all fails once more in the one pass that is to blame."""
    verifier = family.verifier
    robots = [Robot(verifier, prompt, family.images(number)) for number, prompt in enumerate(PROMPTS)]
    logits = verifier.model.logits
    expected = [robot.twin.verify([], [5, 6, 7], GREEDY) for robot in robots]
    calls = []

    def broken(hidden):  # type: ignore[no-untyped-def]
        calls.append(len(hidden))
        if len(hidden) > 4 or len(calls) == 3:
            raise MemoryError("no memory")
        return logits(hidden)

    parts = [ForwardInput(robot.session, [], [5, 6, 7]) for robot in robots]
    with monkeypatch.context() as patch:
        patch.setattr(verifier.model, "logits", broken)
        got = verifier.verify_many(parts)
    failed = 1 if verifier.model.packs else 2
    assert isinstance(got[failed], MemoryError)
    for number, choices in enumerate(got):
        if number != failed:
            same(choices, expected[number])
    for robot, choices in zip(robots, verifier.verify_many(parts), strict=True):
        same(choices, robot.twin.verify([], [5, 6, 7], GREEDY))


def test_who_listens_to_an_exit_fails_alone(qwen: Family) -> None:
    verifier = with_exits(qwen.verifier)
    robots = [Robot(verifier, prompt, qwen.images(number)) for number, prompt in enumerate(PROMPTS)]

    def deaf(choices: Sequence[int], sure: Sequence[float]) -> None:
        raise ValueError("not now")

    heard: Early = []
    told = (deaf, lambda *early: heard.append(early), None, deaf)
    parts = [
        ForwardInput(robot.session, [], [5], on_early=each) for robot, each in zip(robots, told, strict=True)
    ]
    got = verifier.verify_many(parts)
    assert isinstance(got[0], ValueError) and isinstance(got[3], ValueError)
    same(got[1], robots[1].twin.verify([], [5], GREEDY))
    same(got[2], robots[2].twin.verify([], [5], GREEDY))
    assert len(heard) == 2
    for robot, part in zip(robots, parts, strict=True):
        same(verifier.verify_many([replace(part, on_early=None)])[0], robot.twin.verify([], [5], GREEDY))


def test_nothing_to_do(qwen: Family) -> None:
    assert list(qwen.verifier.verify_many([])) == []
    sessions = [qwen.verifier.prepare(prompt) for prompt in PROMPTS[:2]]
    count = sessions[0].not_prefilled
    assert list(
        qwen.verifier.verify_many([ForwardInput(session, prefill=10**6) for session in sessions])
    ) == [(), ()]
    assert [session.not_prefilled for session in sessions] == [0, 0]
    assert list(qwen.verifier.verify_many([ForwardInput(session, prefill=1) for session in sessions])) == [
        (),
        (),
    ]
    assert count > 0


def test_prompts_are_prepared_together_as_alone(everyone: Family) -> None:
    verifier = everyone.verifier
    frames = [(84, 56), (84, 56), (168, 84), (56, 56)]
    prompts: list[tuple[str, list[bytes]]] = [
        (PROMPTS[number], [tiny_checkpoints.jpeg(number, *size)] if everyone.sees else [])
        for number, size in enumerate(frames)
    ]
    prompts.insert(2, ("find the ball", []))
    if everyone.sees:
        prompts.insert(1, ("stop", [b"no picture"]))
        prompts.append((PROMPTS[0], [tiny_checkpoints.jpeg(8), b"nor this"]))
    made = verifier.prepare_many(prompts)
    assert len(made) == len(prompts)
    for (prompt, images), session in zip(prompts, made, strict=True):
        if any(len(image) < 20 for image in images):
            assert isinstance(session, ImageError)
            continue
        assert isinstance(session, HfVerifySession)
        alone = verifier.prepare(prompt, images).sequence.prompt
        mine = session.sequence.prompt
        assert mine.ids == alone.ids and mine.next_position == alone.next_position
        assert torch.equal(mine.positions, alone.positions)
        assert torch.allclose(mine.embeddings, alone.embeddings, atol=1e-5)
        same(session.verify([], [5, 6], GREEDY), verifier.prepare(prompt, images).verify([], [5, 6], GREEDY))


def test_images_that_fail_together_are_prepared_alone(qwen: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    features = qwen.verifier.model.vision_encoder

    def broken(**inputs):  # type: ignore[no-untyped-def]
        if len(inputs["image_grid_thw"]) > 1:
            raise MemoryError("no memory")
        return features(**inputs)

    monkeypatch.setattr(qwen.verifier.model, "vision_encoder", broken)
    prompts = [(prompt, qwen.images(number)) for number, prompt in enumerate(PROMPTS)]
    for (prompt, images), session in zip(prompts, qwen.verifier.prepare_many(prompts), strict=True):
        assert isinstance(session, HfVerifySession)
        same(session.verify([], [5], GREEDY), qwen.verifier.prepare(prompt, images).verify([], [5], GREEDY))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("slots", [0, 5], ids=["own memory", "slots"])
def test_half_precision_rounds_and_no_more(qwen: Family, dtype: str, slots: int) -> None:
    """As on a GPU: the choices may differ at near ties, the logits by the rounding."""
    pair = pair_of(qwen.path)
    model = load_verifier(replace(pair, target=replace(pair.target, dtype=dtype))).model
    assert isinstance(model.decoder, PackedDecoder) or dtype == "bfloat16"
    tree = merge([(5, 6, 7), (5, 8), (9,)], 9)
    with reserved(HfVerifier(model), slots, 128):
        prompts = [prepare(model, words, qwen.images(number)) for number, words in enumerate(PROMPTS)]
        answers = [CachedSequence(model, prompt) for prompt in prompts]
        logits_after(model, [(answer, []) for answer in answers])
        inputs = [answer.plan([20, 30][:number], 5, tree) for number, answer in enumerate(answers)]
        together = model.run(inputs).split(5)
    for number, (prompt, rows) in enumerate(zip(prompts, together, strict=True)):
        alone = CachedSequence(model, prompt).logits([20, 30][:number], 5, tree)
        assert torch.allclose(rows.float(), alone.float(), atol=0.03 * float(alone.float().abs().max()))


@pytest.mark.parametrize("slots", [0, 24], ids=["own memory", "slots"])
def test_a_fleet_on_the_shipped_pair_says_what_each_robot_says_alone(slots: int) -> None:
    """Actions to their ends: frames prepared together, drafts made together, prompts taken in piece by piece."""
    drafter, verifier = load_drafter("tiny"), load_verifier("tiny")
    assert isinstance(drafter, HfDrafter) and verifier.exits
    rng = random.Random(slots)
    prompts = [
        (build_prompt(words, None), [tiny_checkpoints.jpeg(number, 168, 84)])
        for number, words in enumerate(("go to the red chair", "find the blue ball", "stop", "turn left") * 3)
    ]
    truths = [answer_alone(verifier, *prompt) for prompt in prompts]
    assert len({tuple(truth) for truth in truths}) > 3
    foretold: Early = []
    with reserved(verifier, slots, 128), reserved(drafter, slots, 128):
        sessions, drafts = verifier.prepare_many(prompts), drafter.open_many(prompts)
        committed: list[list[int]] = [[] for _ in prompts]
        while going := [n for n, truth in enumerate(truths) if len(committed[n]) < len(truth)]:
            asking = rng.sample(going, rng.randrange(1, len(going) + 1))
            own = [(drafts[n], committed[n], GREEDY) for n in asking]
            guesses = drafter.draft_many(own, rng.randrange(1, 7))  # type: ignore[arg-type]
            parts = []
            for n, guess in zip(asking, guesses, strict=True):
                session = sessions[n]
                assert isinstance(session, HfVerifySession) and isinstance(guess, list)
                if session.not_prefilled and rng.random() < 0.5:
                    parts.append(ForwardInput(session, prefill=16))
                else:
                    tell = lambda *early: foretold.append(early)  # noqa: E731
                    parts.append(ForwardInput(session, list(committed[n]), guess, on_early=tell))
            for n, part, choices in zip(asking, parts, verifier.verify_many(parts), strict=True):
                if not part.prefill:
                    verdict = judge(part.draft, ids(choices), verifier.eos_ids, 99)
                    committed[n] += verdict.tokens
        assert committed == truths
        for session in (*sessions, *drafts):
            assert not isinstance(session, Exception)
            session.close()
    assert foretold


def answer_alone(verifier: HfVerifier, prompt: str, images: list[bytes]) -> list[int]:
    session = verifier.prepare(prompt, images)
    tokens: list[int] = []
    while not (tokens and tokens[-1] in verifier.eos_ids):
        tokens += session.verify(tokens, (), GREEDY)
    return tokens
