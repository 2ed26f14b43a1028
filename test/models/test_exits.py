"""Early exits: they foretell, and change nothing."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import tiny_checkpoints
import torch
import yaml
from families import Family, pair_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.cpu_decoder import CpuDecoder
from spec_decode_ros.models.exits import ExitAdapter, ExitListener, Exits, ExitsError, load_exits, save_exits
from spec_decode_ros.models.interfaces import ExitFigures
from spec_decode_ros.models.packed_decoder import PackedDecoder
from spec_decode_ros.models.pair import load_verifier
from spec_decode_ros.models.pair_config import EXITS_FILE
from spec_decode_ros.models.verifier import HfVerifier

GREEDY = Sampling()
SAMPLED = Sampling(temperature=0.8, top_k=20, top_p=0.95, seed=11)
PROMPT = "go to the red chair | last vx 0.4 wz -0.6 | blue box left 2.5"
LAST = 1  # of the random checkpoints' two layers
WIDTH = 64

Early = tuple[tuple[int, ...], tuple[float, ...]]


def figures(layer: int, threshold: float = 0.7) -> ExitFigures:
    return ExitFigures(layer, threshold, agreement=0.8, sure_agreement=0.96, sure_share=0.5)


def adapter(seed: int | None = None, width: int = WIDTH) -> ExitAdapter:
    """One that changes nothing, or with a seed one that does."""
    made = ExitAdapter(width, 16)
    if seed is not None:
        tiny_checkpoints.scramble(made, seed)
    return made


def with_exits(verifier: HfVerifier, *adapters: ExitAdapter) -> HfVerifier:
    """The verifier with exits after its first layers."""
    exits = Exits(verifier.model, adapters, [figures(layer) for layer in range(len(adapters))])
    return HfVerifier(verifier.model, exits)


def passes(
    verifier: HfVerifier, images: list[bytes], sampling: Sampling, early: list[Early] | None
) -> list[tuple]:
    """Verdicts of a prefill with a draft, of a pass over several tokens, of one over one, and of one after a return."""
    session = verifier.prepare(PROMPT, images)
    tell = None if early is None else lambda choices, sure: early.append((choices, sure))
    draft = [20, 30, 40, 50, 60]
    verdicts = [session.verify((), draft[:3], sampling, tell)]
    good = [*verdicts[0][:1]]
    verdicts.append(session.verify(good, draft, sampling, tell))
    verdicts.append(session.verify([*good, *verdicts[1][:1]], (), sampling, tell))
    verdicts.append(session.verify((), draft[:2], sampling, tell))
    session.close()
    return verdicts


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_verdicts_are_the_same_with_and_without(family: Family, sampling: Sampling) -> None:
    images = family.images()
    early: list[Early] = []
    plain = passes(family.verifier, images, sampling, None)
    exiting = with_exits(family.verifier, adapter(1), adapter(2))
    assert passes(exiting, images, sampling, early) == plain
    assert passes(exiting, images, sampling, None) == plain
    assert [len(choices) for choices, _ in early] == [len(v) for v in plain for _ in exiting.exits]
    foretold = [choices for choices, _ in early]
    assert foretold[::2] != plain, "exits of random weights that are always right prove nothing"


def test_the_logits_are_the_same_bits(family: Family) -> None:
    images, draft = family.images(), [20, 30, 40]
    verifier, told = with_exits(family.verifier, adapter(1), adapter(2)), []
    exits, session = verifier.early_exits, verifier.prepare(PROMPT, images)

    def notify(layer: int, hidden: torch.Tensor) -> None:
        exits.notify(layer, hidden, [ExitListener(range(4), GREEDY, lambda *early: told.append(early))])

    watched = session.sequence.logits(
        draft, 4, hooks={layer: partial(notify, layer) for layer in exits.layers}
    )
    plain = family.verifier.prepare(PROMPT, images).sequence.logits(draft, 4)
    assert torch.equal(watched, plain) and len(told) == 2


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_an_untrained_exit_after_the_last_layer_says_the_verdict(family: Family, sampling: Sampling) -> None:
    early: list[Early] = []
    verifier = with_exits(family.verifier, adapter(1), adapter())
    verdicts = passes(verifier, family.images(), sampling, early)
    assert [choices for choices, _ in early[1::2]] == verdicts


def test_confidence_is_the_probability_of_the_choice(qwen: Family) -> None:
    for sampling in (GREEDY, SAMPLED):
        early: list[Early] = []
        session = with_exits(qwen.verifier, adapter(1), adapter()).prepare(PROMPT, qwen.images())
        verdict = session.verify((), [20, 30], sampling, lambda *said, early=early: early.append(said))
        logits = qwen.verifier.prepare(PROMPT, qwen.images()).sequence.logits([20, 30], 3)
        expected = logits.softmax(-1)[range(3), list(verdict)].tolist()
        assert early[-1][1] == pytest.approx(expected, abs=1e-6)
        assert all(0 < value <= 1 for _, sure in early for value in sure)


def test_exits_speak_in_the_order_of_their_layers_and_before_the_next_one_runs(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def attend(*args: object, **kwargs: object) -> torch.Tensor:
        events.append("attention")
        return attention(*args, **kwargs)

    session = with_exits(family.verifier, adapter(1), adapter(2)).prepare(PROMPT, family.images())
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    session.verify((), [20, 30], GREEDY, lambda choices, sure: events.append("exit"))
    assert events == ["attention", "exit", "attention", "exit"]
    events.clear()
    session.verify((), [20, 30], GREEDY)
    assert events == ["attention"] * 2, "nothing is left behind on the layers"


def test_a_callback_that_fails_leaves_a_usable_session(family: Family) -> None:
    verifier = with_exits(family.verifier, adapter(1))
    session = verifier.prepare(PROMPT, family.images())
    truth = session.verify((), [20, 30], GREEDY)

    def fail(choices: object, sure: object) -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        session.verify(truth[:1], [20, 30], GREEDY, fail)
    assert session.verify((), [20, 30], GREEDY) == truth


def test_an_exit_that_is_not_finite_stays_silent(qwen: Family) -> None:
    broken = adapter(1)
    with torch.no_grad():
        broken.up.weight[0, 0] = float("inf")
    early: list[Early] = []
    verdicts = passes(with_exits(qwen.verifier, broken), qwen.images(), SAMPLED, early)
    assert verdicts == passes(qwen.verifier, qwen.images(), SAMPLED, None)
    assert not early


def test_rows_of_a_padded_head_are_never_foretold(tmp_path: Path) -> None:
    padded = load_verifier(pair_of(tiny_checkpoints.make_qwen2_vl(tmp_path, padded_head=38)))
    early: list[Early] = []
    passes(with_exits(padded, adapter(1)), [tiny_checkpoints.jpeg(1)], SAMPLED, early)
    assert max(max(choices) for choices, _ in early) < padded.model.text.size


def test_without_exits_nobody_is_called(qwen: Family) -> None:
    early: list[Early] = []
    assert qwen.verifier.exits == ()
    passes(qwen.verifier, qwen.images(), GREEDY, early)
    assert not early


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_saved_file_gives_the_same_exits(family: Family, tmp_path: Path, dtype: torch.dtype) -> None:
    model, path = family.verifier.model, tmp_path / "new" / EXITS_FILE
    weights = [adapter(1), adapter(2)]
    measured = [figures(0, 0.123456789), figures(1, 1.0)]
    save_exits(path, model, weights, measured, dtype)
    loaded = load_exits(path, model)
    assert loaded.figures == tuple(measured)
    assert loaded.layers == (0, 1)
    rows = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(1))
    for layer, own in enumerate(weights):
        expected = Exits(model, [own.to(dtype)], [figures(layer)]).logits(layer, rows)
        assert torch.equal(loaded.logits(layer, rows), expected)


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_files_metadata_say_what_it_is(qwen: Family, tmp_path: Path) -> None:
    path = tmp_path / EXITS_FILE
    save_exits(path, qwen.verifier.model, [adapter(1)], [figures(1)])
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert metadata["layers"] == "1"
    assert metadata["dtype"] == "float16"
    assert metadata["version"] == "1"
    assert json.loads(metadata["exits"])[0]["sure_agreement"] == 0.96
    assert {w.dtype for name, w in load_file(path).items() if name != "target"} == {torch.float16}


def test_exits_beside_a_checkpoint_or_named_by_a_pair_are_loaded(tmp_path: Path) -> None:
    folder = tiny_checkpoints.make_llama(tmp_path / "target")
    tiny_checkpoints.make_llama(tmp_path / "draft")
    pair = tiny_checkpoints.write_pair(tmp_path)
    bare = load_verifier(pair)
    assert bare.exits == ()
    save_exits(folder / EXITS_FILE, bare.model, [adapter(1)], [figures(0)])
    found = load_verifier(pair)
    assert found.exits == (figures(0),)
    assert passes(found, [], GREEDY, []) == passes(bare, [], GREEDY, None)
    save_exits(tmp_path / "others.safetensors", bare.model, [adapter(1)], [figures(1)])
    for name, expected in (("others", (figures(1),)), ("nowhere", None)):
        document = yaml.safe_load(pair.read_text())
        document["target"]["exits"] = f"{name}.safetensors"
        named = tmp_path / f"{name}.yaml"
        named.write_text(yaml.safe_dump(document))
        if expected:
            assert load_verifier(named).exits == expected
        else:
            with pytest.raises(ExitsError, match="cannot be read"):
                load_verifier(named)


def damaged(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], how: str) -> None:
    """Write an exits file with one thing wrong."""
    if how == "garbage":
        path.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
        return
    records = json.loads(metadata["exits"])
    if how == "no metadata":
        metadata = {}
    elif how == "other format":
        metadata["format"] = "pt"
    elif how == "newer version":
        metadata["version"] = "2"
    elif how == "other layers":
        metadata["layers"] = "1"
    elif how == "beyond the end":
        records[0]["layer"], metadata["layers"] = 7, "7"
        tensors = {name.replace("0.", "7."): weight for name, weight in tensors.items()}
    elif how == "a threshold that is none":
        records[0]["threshold"] = float("nan")
    elif how == "an unknown field":
        records[0]["colour"] = 1
    elif how == "a weight is missing":
        del tensors["0.norm"]
    elif how == "a weight too many":
        tensors["1.norm"] = torch.ones(WIDTH)
    elif how == "shapes that differ":
        tensors["0.up.weight"] = tensors["0.up.weight"][:, 1:].contiguous()
    elif how == "not finite":
        tensors["0.norm"][3] = float("nan")
    elif how == "another target":
        tensors["target"] = -tensors["target"]
    if metadata:
        metadata["exits"] = json.dumps(records)
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("garbage", "cannot be read"),
        ("no metadata", "holds something else"),
        ("other format", "holds something else"),
        ("newer version", "format version 2"),
        ("other layers", "contradicts itself"),
        ("beyond the end", "after layer 7, but the target ends at 1"),
        ("a threshold that is none", "threshold of the exit after layer 0 must be from 0 to 1"),
        ("an unknown field", "damaged"),
        ("a weight is missing", "not those that it describes"),
        ("a weight too many", "not those that it describes"),
        ("shapes that differ", "do not fit each other"),
        ("not finite", "not finite"),
        ("another target", "another target"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(
    qwen: Family, tmp_path: Path, how: str, sentence: str
) -> None:
    path = tmp_path / EXITS_FILE
    save_exits(path, qwen.verifier.model, [adapter(1)], [figures(0)])
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
    damaged(path, load_file(path), metadata, how)
    with pytest.raises(ExitsError, match=sentence) as caught:
        load_exits(path, qwen.verifier.model)
    said = str(caught.value)
    assert str(path) in said
    assert "train-exits" in said
    assert "\n" not in said


def test_exits_of_another_width_or_another_target_are_refused(qwen: Family, tmp_path: Path) -> None:
    path = tmp_path / EXITS_FILE
    wide = load_verifier(pair_of(tiny_checkpoints.make_qwen2_vl(tmp_path / "wide", width=128)))
    save_exits(path, wide.model, [adapter(1, 128)], [figures(0)])
    with pytest.raises(ExitsError, match="128 wide, but the target 64"):
        load_exits(path, qwen.verifier.model)
    other = load_verifier(pair_of(tiny_checkpoints.make_qwen2_vl(tmp_path / "other", seed=9)))
    save_exits(path, other.model, [adapter(1)], [figures(0)])
    with pytest.raises(ExitsError, match="another target"):
        load_exits(path, qwen.verifier.model)


def test_exits_know_their_target_in_half_precision(qwen: Family, tmp_path: Path) -> None:
    path = tmp_path / EXITS_FILE
    save_exits(path, qwen.verifier.model, [adapter(1)], [figures(0)])
    pair = pair_of(qwen.path)
    object.__setattr__(pair.target, "dtype", "float16")
    half = load_verifier(pair)
    assert isinstance(half.model.decoder, PackedDecoder)
    loaded = load_exits(path, half.model)
    assert loaded.logits(0, torch.zeros(1, WIDTH, dtype=torch.float16)).dtype == torch.float16
    assert isinstance(qwen.verifier.model.decoder, CpuDecoder)


@pytest.mark.parametrize("layers", [(1, 0), (0, 0)])
def test_exits_come_in_order(qwen: Family, layers: tuple[int, int]) -> None:
    with pytest.raises(ExitsError, match="rising order"):
        Exits(qwen.verifier.model, [adapter(), adapter()], [figures(layer) for layer in layers])


def truncated(
    verifier: HfVerifier, images: list[bytes], layer: int, count: int, sampling: Sampling
) -> list[int]:
    """What `count` tokens of self-drafting must be: every token from a pass of its own, in the middle of the layers."""
    exits = verifier.early_exits
    assert exits is not None
    tokens: list[int] = []

    def choose(hidden: torch.Tensor) -> None:
        token = exits.choose(layer, hidden, len(tokens), None, sampling)
        assert token is not None
        chosen.append(token)

    while len(tokens) < count and not (tokens and tokens[-1] in verifier.eos_ids):
        chosen: list[int] = []
        verifier.prepare(PROMPT, images).sequence.logits(tokens, 1, hooks={layer: choose})
        tokens += chosen
    return tokens


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_target_drafts_for_itself_without_a_trace(family: Family, sampling: Sampling) -> None:
    images = family.images()
    verifier = with_exits(family.verifier, adapter(1))
    drafted = truncated(verifier, images, 0, 6, sampling)
    plain = family.verifier.prepare(PROMPT, images)
    session = verifier.prepare(PROMPT, images)
    assert verifier.self_drafting is not None and verifier.self_drafting.share == 0.5
    assert list(session.self_draft((), 6, sampling)) == drafted, "before the first pass"
    verdict = plain.verify((), drafted, sampling)
    assert session.verify((), drafted, sampling) == verdict
    assert list(session.self_draft((), 6, sampling)) == drafted, "after it"
    assert list(session.self_draft(drafted[:2], 3, sampling)) == drafted[2:5]
    other = [20, 30]
    session.self_draft(other, 4, sampling)  # from where nobody has been
    assert session.verify(verdict[:1], other, sampling) == plain.verify(verdict[:1], other, sampling)
    for length in range(3):
        committed = verdict[:length]
        draft = session.self_draft(committed, 4, sampling)
        assert session.verify(committed, draft, sampling) == plain.verify(committed, draft, sampling)
    assert session.self_draft((), 0, sampling) == ()


def test_self_drafts_leave_the_cache_as_it_was(family: Family) -> None:
    images, draft = family.images(), [20, 30, 40]
    session = with_exits(family.verifier, adapter(1)).prepare(PROMPT, images)
    fresh = family.verifier.prepare(PROMPT, images)
    for one in (session, fresh):
        one.verify((), draft, GREEDY)
    session.self_draft([*draft, 50], 5, GREEDY)
    assert torch.equal(session.sequence.logits([*draft, 50], 1), fresh.sequence.logits([*draft, 50], 1))


def test_self_drafts_end_with_the_answer_and_with_the_context(tmp_path: Path) -> None:
    model = tiny_checkpoints.make_qwen2_vl(tmp_path / "plain")
    verifier = with_exits(load_verifier(pair_of(model)), adapter(1))
    drafted = verifier.prepare(PROMPT, ()).self_draft((), 8, GREEDY)
    assert len(drafted) == 8
    verifier.model.context = len(verifier.prepare(PROMPT, ()).sequence.prompt.ids) + 3
    assert len(verifier.prepare(PROMPT, ()).self_draft((), 8, GREEDY)) == 4, "one after each that fits"
    word = verifier.decode([drafted[3]])
    ending = tiny_checkpoints.make_qwen2_vl(tmp_path / "ending", eos_words=[word])
    ending_verifier = with_exits(load_verifier(pair_of(ending)), adapter(1))
    end = drafted.index(drafted[3])
    assert ending_verifier.prepare(PROMPT, ()).self_draft((), 8, GREEDY) == drafted[: end + 1]


def test_without_exits_a_target_says_that_it_cannot_draft(qwen: Family) -> None:
    session = qwen.verifier.prepare(PROMPT, ())
    assert qwen.verifier.self_drafting is None
    with pytest.raises(SpecDecodeError, match="train early exits"):
        session.self_draft((), 3, GREEDY)


@pytest.mark.parametrize(("first", "second", "best"), [(0.9, 0.95, 0), (0.2, 0.95, 1), (0.5, 0.5, 0)])
def test_the_exit_that_drafts_is_the_one_that_is_worth_most(
    tmp_path: Path, first: float, second: float, best: int
) -> None:
    deep = load_verifier(pair_of(tiny_checkpoints.make_llama(tmp_path / "deep", layers=4)))
    measured = [ExitFigures(layer, 0.5, value, 0.9, 0.5) for layer, value in enumerate((first, second))]
    assert Exits(deep.model, [adapter(1), adapter(2)], measured).drafting.layer == best
