"""A tree in one pass: at every node the target says what it says after that branch alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
from families import Family, pair_of
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.tree import Tree, ancestors, judge_tree, merge, path
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.decoder import Segment
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.transformers_decoder import TransformersDecoder
from spec_decode_ros.models.verifier import HfVerifier

GREEDY = Sampling()
SAMPLED = Sampling(temperature=1.5, top_k=20, top_p=0.95, seed=7)
SAMPLINGS = pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
PROMPT = "go to the red chair | last vx 0.4 wz -0.6 | blue box left 2.5"
LENGTH = 14


def answer(verifier: HfVerifier, prompt: str, images: list[bytes], sampling: Sampling) -> list[int]:
    """The target's own answer, a token a pass, going on after an end token."""
    session = verifier.prepare(prompt, images)
    tokens: list[int] = []
    while len(tokens) < LENGTH:
        tokens += session.verify(tokens, (), sampling)
    return tokens


def bushy(rng: random.Random, truth: list[int], nodes: int = 12) -> Tree:
    """A tree around `truth` in which its tokens are not the first nodes."""
    branches = [[rng.randrange(80) for _ in range(rng.randrange(1, 4))] for _ in range(2)]
    for _ in range(3):
        right = rng.randrange(len(truth) + 1)
        branches.append([*truth[:right], *(rng.randrange(80) for _ in range(rng.randrange(3)))][:5])
    branches.append(truth[:5])
    return merge(branches, nodes)


def alone(
    verifier: HfVerifier,
    prompt: str,
    images: list[bytes],
    committed: list[int],
    tree: Tree,
    sampling: Sampling,
) -> tuple[int, ...]:
    """What a fresh session says after each branch of the tree, verified as a linear draft."""
    session = verifier.prepare(prompt, images)
    said = [session.verify(committed, (), sampling)[0]]
    for node in range(len(tree)):
        branch = [tree.tokens[above] for above in path(tree, node)]
        said.append(session.verify(committed, branch, sampling)[-1])
    return tuple(said)


@SAMPLINGS
def test_each_branch_gets_what_it_gets_alone(family: Family, sampling: Sampling) -> None:
    images = family.images()
    truth = answer(family.verifier, PROMPT, images, sampling)
    rng = random.Random(3)
    said = set()
    for start in (0, 0, 1, 6):
        tree = bushy(rng, truth[start:])
        assert not tree.is_line
        session = family.verifier.prepare(PROMPT, images)
        choices = session.verify_tree(truth[:start], tree, sampling)
        assert choices == alone(family.verifier, PROMPT, images, truth[:start], tree, sampling)
        said |= set(choices)
    assert len(said) > 5  # a model that always says the same would prove little


@SAMPLINGS
def test_an_answer_by_trees_is_the_targets_own(family: Family, sampling: Sampling) -> None:
    images = family.images(2)
    truth = answer(family.verifier, PROMPT, images, sampling)
    rng = random.Random(4)
    for _ in range(4):
        session = family.verifier.prepare(PROMPT, images)
        committed: list[int] = []
        while len(committed) < LENGTH:
            if rng.random() < 0.3:
                draft = truth[len(committed) : len(committed) + rng.randrange(4)]
                tree = Tree.line([*draft, rng.randrange(80)])
                choices = session.verify(committed, tree.tokens, sampling)
            else:
                tree = bushy(rng, truth[len(committed) :])
                choices = session.verify_tree(committed, tree, sampling)
            verdict, _ = judge_tree(tree, choices, (), LENGTH)
            committed += verdict.tokens
            assert committed[:LENGTH] == truth[: len(committed)]


def test_the_branch_that_is_followed_is_not_computed_again(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = family.verifier.model.decoder
    images = family.images()
    widths: list[int] = []
    run = type(decoder).run

    def counting(self, embeddings, *rest):  # type: ignore[no-untyped-def]
        widths.append(embeddings.shape[1])
        return run(self, embeddings, *rest)

    truth = answer(family.verifier, PROMPT, images, GREEDY)
    monkeypatch.setattr(type(decoder), "run", counting)
    wrong = (truth[0] + 1) % 80
    tree = merge([[wrong, 5], truth[:3], [truth[0], (truth[1] + 1) % 80]], 12)
    session = family.verifier.prepare(PROMPT, images)
    session.verify_tree((), tree, GREEDY)
    assert widths == [session.prompt_tokens + len(tree)]
    expected = family.verifier.prepare(PROMPT, images).verify(truth[:4], truth[4:7], GREEDY)
    widths.clear()
    assert session.verify(truth[:4], truth[4:7], GREEDY) == expected
    assert widths == [1 + 3]  # the target's token after the branch, and the draft
    # A tree behind which nothing of it was committed is forgotten.
    session.verify_tree(truth[:6], tree, GREEDY)
    widths.clear()
    assert session.verify(truth[:7], (), GREEDY) == (truth[7],)
    assert widths == [1]
    other = (truth[6] + 1) % 80
    fresh = family.verifier.prepare(PROMPT, images).verify([*truth[:6], other], truth[:2], GREEDY)
    assert session.verify([*truth[:6], other], truth[:2], GREEDY) == fresh


@SAMPLINGS
def test_a_tree_without_branches_is_a_draft(family: Family, sampling: Sampling) -> None:
    images = family.images()
    truth = answer(family.verifier, PROMPT, images, sampling)
    draft = [*truth[:4], 5, 6]
    expected = family.verifier.prepare(PROMPT, images).verify((), draft, sampling)
    session = family.verifier.prepare(PROMPT, images)
    assert session.verify_tree((), Tree.line(draft), sampling) == expected
    assert session.verify_tree(truth[:4], Tree(), sampling) == (truth[4],)


def test_committed_may_shrink_or_change_after_a_tree(family: Family) -> None:
    images = family.images()
    truth = answer(family.verifier, PROMPT, images, GREEDY)
    session = family.verifier.prepare(PROMPT, images)
    tree = merge([[7, 8], truth[3:6], [truth[3], 9, 10]], 12)
    rng = random.Random(6)
    for _ in range(10):
        session.verify_tree(truth[:3], tree, GREEDY)
        committed = rng.choice(
            (truth[:5], truth[:2], [], [5, 6, 7, 8], [*truth[:3], 7, 8, 9], [*truth[:3], 8])
        )
        other = bushy(rng, truth)
        expected = alone(family.verifier, PROMPT, images, committed, other, GREEDY)
        assert session.verify_tree(committed, other, GREEDY) == expected
    session.verify_tree(truth[:3], tree, GREEDY)
    session.close()
    assert list(session.verify(truth[:5], truth[5:7], GREEDY)) == truth[5:8]


def test_sessions_that_share_a_model_do_not_disturb_each_other(family: Family) -> None:
    cases = [(PROMPT, family.images(1)), ("find the blue box", family.images(2)), ("stop", [])]
    if family.sees:
        cases.append(("turn left please", [tiny_checkpoints.jpeg(3, 168, 84)]))
    truths = [answer(family.verifier, prompt, images, GREEDY) for prompt, images in cases]
    sessions = [family.verifier.prepare(prompt, images) for prompt, images in cases]
    answers: list[list[int]] = [[] for _ in cases]
    rng = random.Random(2)
    while any(len(said) < LENGTH for said in answers):
        number = rng.choice([number for number, said in enumerate(answers) if len(said) < LENGTH])
        said = answers[number]
        tree = bushy(rng, truths[number][len(said) :])
        verdict, _ = judge_tree(tree, sessions[number].verify_tree(said, tree, GREEDY), (), 99)
        said += verdict.tokens
    assert [said[:LENGTH] for said in answers] == truths


def test_placeholders_and_ids_from_nowhere(family: Family) -> None:
    images = family.images()
    truth = answer(family.verifier, PROMPT, images, GREEDY)
    size = family.verifier.model.text.size
    bad = [token for token in (family.verifier.model.image_token_id, size, 2**31 - 1) if token >= 0]
    tree = merge([*([*truth[:2], token, 0, 7] for token in bad), [*truth[:2], 0, 3], truth[:5]], 40)
    session = family.verifier.prepare(PROMPT, images)
    choices = session.verify_tree((), tree, GREEDY)
    assert all(0 <= token < size for token in choices)
    verdict, _ = judge_tree(tree, choices, (), 99)
    assert list(verdict.tokens) == truth[: len(verdict.tokens)] and len(verdict.tokens) >= 5
    committed = [*truth[:2], bad[-1], 0]  # never what a target said, yet it must do no harm
    fresh = family.verifier.prepare(PROMPT, images).verify(committed, truth[:3], GREEDY)
    assert session.verify(committed, truth[:3], GREEDY) == fresh


def test_a_tree_beyond_the_context_is_refused_and_a_wide_one_fits(qwen: Family) -> None:
    session = qwen.verifier.prepare(PROMPT, qwen.images())
    room = qwen.verifier.model.context - session.prompt_tokens
    committed = [5] * (room - 2)
    session.verify_tree(committed, merge([(1, 2), (3, 4), (5, 6)], 9), GREEDY)
    with pytest.raises(SpecDecodeError, match="longer than the model's context"):
        session.verify_tree(committed, merge([(1, 2, 3), (3, 4)], 9), GREEDY)
    fresh = qwen.verifier.prepare(PROMPT, qwen.images())
    assert session.verify(committed, (3,), GREEDY) == fresh.verify(committed, (3,), GREEDY)


def test_a_pass_that_breaks_off_in_a_tree_is_forgotten(qwen: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = answer(qwen.verifier, PROMPT, qwen.images(), GREEDY)
    session = qwen.verifier.prepare(PROMPT, qwen.images())
    tree = merge([(1, 2), truth[:3]], 9)
    session.verify_tree((), tree, GREEDY)
    with monkeypatch.context() as patch:
        patch.setattr(qwen.verifier.model, "logits", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            session.verify_tree(truth[:3], tree, GREEDY)
    assert list(session.verify(truth[:3], truth[3:5], GREEDY)) == truth[3:6]


def test_the_mask_is_right_for_eager_attention_too(qwen: Family) -> None:
    verifier = load_verifier(pair_of(qwen.path))
    verifier.model.model.set_attn_implementation("eager")
    verifier.model.decoder = TransformersDecoder(verifier.model.model.get_decoder())
    images = qwen.images()
    truth = answer(qwen.verifier, PROMPT, images, GREEDY)
    tree = bushy(random.Random(1), truth)
    choices = verifier.prepare(PROMPT, images).verify_tree((), tree, GREEDY)
    assert choices == alone(qwen.verifier, PROMPT, images, [], tree, GREEDY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_tree_in_half_precision(qwen: Family, dtype: torch.dtype) -> None:
    model = load_verifier(pair_of(qwen.path)).model
    decoder = TransformersDecoder(model.model.to(dtype).get_decoder())
    tree = merge([(1, 2, 3), (1, 4), (5,)], 9)
    embeddings = torch.randn((1, 6 + len(tree), 64), generator=torch.Generator().manual_seed(0)).to(dtype)
    depths = torch.tensor(tree.depths)
    seen = torch.from_numpy(ancestors(tree))
    with torch.inference_mode():
        positions = torch.cat((torch.arange(6), 6 + depths)).expand(3, 1, -1)
        whole = decoder.run(embeddings, positions, [Segment(decoder.new_cache(), 0, 6 + len(tree), seen)])
        for node in range(len(tree)):
            rows = [*range(6), *(6 + above for above in path(tree, node))]
            line = torch.arange(len(rows)).expand(3, 1, -1)
            branch = decoder.run(embeddings[:, rows], line, [Segment(decoder.new_cache(), 0, len(rows))])
            assert torch.allclose(whole[0, 6 + node].float(), branch[0, -1].float(), atol=0.1)


def _sliding(size: int) -> PreTrainedModel:
    settings = {k: v for k, v in tiny_checkpoints._text_config(size, 64, 2).items()}
    return MistralForCausalLM(MistralConfig(sliding_window=6, **settings))


def _falcon(size: int, alibi: bool) -> PreTrainedModel:
    return FalconForCausalLM(
        FalconConfig(vocab_size=size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, alibi=alibi)
    )


def _bart(size: int) -> PreTrainedModel:
    """Its decoder counts positions by itself."""
    return BartForCausalLM(
        BartConfig(
            vocab_size=size, d_model=64, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=64
        )
    )


@pytest.mark.parametrize(
    ("make", "works"),
    [
        (_sliding, False),
        (_bart, False),
        (lambda size: _falcon(size, alibi=True), False),
        (lambda size: _falcon(size, alibi=False), True),
    ],
    ids=["sliding window", "bart", "falcon with alibi", "falcon"],
)
def test_what_takes_no_tree_says_so(tmp_path: Path, make, works: bool) -> None:
    location = tiny_checkpoints.make_llama(tmp_path / "a")
    model = make(len(AutoTokenizer.from_pretrained(location))).eval()
    model.generation_config.forced_eos_token_id = None  # Bart's, which would be refused for itself
    tiny_checkpoints.scramble(model, 2)
    tiny_checkpoints._save(model, location, [1], 0)
    verifier = load_verifier(pair_of(location))
    session = verifier.prepare("go to the red chair")
    assert verifier.can_verify_trees is works
    tree = merge([(5, 6, 7), (5, 9), (8, 9)], 9)
    if works:
        expected = alone(verifier, "go to the red chair", [], [], tree, GREEDY)
        assert session.verify_tree((), tree, GREEDY) == expected
    else:
        with pytest.raises(SpecDecodeError, match="cannot take a token tree") as caught:
            session.verify_tree((), tree, GREEDY)
        assert str(caught.value).count(". ") == 0


def test_every_supported_family_takes_trees(family: Family) -> None:
    assert family.verifier.can_verify_trees
