"""From comparisons to the page: bound and overhead, the document, and what the page says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from test_comparison import result

from spec_decode_ros import cli
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import MethodComparison, Sample, Spread
from spec_decode_ros.lab.bench.document import bound_ms, document, overhead_ms
from spec_decode_ros.lab.bench.page import page
from spec_decode_ros.lab.bench.run import command_typed
from spec_decode_ros.lab.bench.suite import NamedLink, links
from spec_decode_ros.lab.network.link import LinkProfile

FAST = NamedLink("RTT 20 ms, 8 Mbit/s", LinkProfile(rtt_ms=20.0, uplink_mbps=8.0, downlink_mbps=8.0))
SAMPLES = [Sample(b"a", "go", None)] * 2


def compared(auto_ms: float, tokens: tuple[int, ...] = (1, 2)) -> MethodComparison:
    figures = {"image_bytes": 9000, "uplink_bytes": 100, "prefill_ms": 15.0, "cloud_busy_ms": 40.0}
    cloud = [result(ttva_ms=t, cloud_passes=10, **figures) for t in (71.1, 73.1)]
    auto = [result(tokens, ttva_ms=auto_ms, cloud_passes=2, **figures) for _ in range(2)]
    return MethodComparison(SAMPLES, {"cloud": cloud, "auto": auto})


def test_the_bound_is_upload_round_trip_and_prefill() -> None:
    assert bound_ms(compared(50.0), FAST.profile) == Spread(44.0, 44.0, 44.0)  # 9 ms + 20 ms + 15 ms
    assert bound_ms(compared(50.0), LinkProfile()) == Spread(15.0, 15.0, 15.0)
    assert bound_ms(MethodComparison(SAMPLES, {"auto": []}), FAST.profile) is None


def test_the_overhead_is_what_neither_models_nor_link_took() -> None:
    rest = overhead_ms(compared(75.0), FAST.profile)
    assert rest is not None and rest.median == pytest.approx(75.0 - 20.0 - 9.0 - 40.0)
    assert overhead_ms(compared(50.0), LinkProfile(jitter_ms=3.0)) is None
    assert overhead_ms(MethodComparison(SAMPLES, {"cloud": []}), FAST.profile) is None


def test_links_have_names() -> None:
    near, far = links([0.0, 60.0], 20.0)
    assert (near.name, near.profile) == ("loopback", LinkProfile())
    assert far == NamedLink("RTT 60 ms, 20 Mbit/s", LinkProfile(60.0, 20.0, 20.0))
    assert [link.name for link in links([1.0], 5.0, ["lte", "wifi"])] == ["lte", "wifi"]
    with pytest.raises(SpecDecodeError, match="no network"):
        links([1.0], 5.0, ["moon"])


def test_the_page_says_who_won_and_who_lost(tmp_path: Path) -> None:
    results = [(FAST, compared(50.0)), (NamedLink("slow", LinkProfile(rtt_ms=90.0)), compared(80.0, (1, 3)))]
    made = json.loads(json.dumps(document("smoke", "toy", "spec-decode bench", results, peers={})))
    text = page([made])
    assert "`auto` is the soonest, 1.44 times as fast as the next, `cloud`." in text
    assert "**`auto` loses** to `cloud`: it takes 1.11 times as long." in text
    assert "take 44.0 ms: no method can be sooner. `auto` takes 1.14 times that." in text
    assert "Tokens: the same as `cloud`'s" in text
    assert "Tokens differ from `cloud`'s in some samples: auto." in text
    assert "`spec-decode bench`" in text and "torch" in text
    assert "| `auto` | 50.0 (50.0–50.0) |" in text
    in_short = text.split("\n## ")[1]
    assert in_short.startswith("`smoke`, pair `toy`, in short") and "| `auto` | 50.0 | 80.0 |" in in_short
    assert "| `auto` | 50.0 / 50.0 | 80.0 / 80.0 |" in page([made, made])

    file, out = tmp_path / "one.json", tmp_path / "PAGE.md"
    file.write_text(json.dumps(made))
    assert cli.main(["report", str(file), "--out", str(out)]) == 0
    assert out.read_text() == text
    assert cli.main(["report", str(file), "--out", str(file / "PAGE.md")]) == 2
    from spec_decode_ros.lab.bench.comparison_plot import draw_methods

    with Image.open(draw_methods(made, tmp_path / "made" / "methods.png")) as image:
        assert min(image.size) > 500


@pytest.mark.parametrize(("text", "reason"), [("{", "no JSON"), ("[]", "no bench"), ("{}", "no bench")])
def test_other_files_are_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    file, out = tmp_path / "other.json", tmp_path / "PAGE.md"
    file.write_text(text)
    assert cli.main(["report", str(file), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert reason in said and len(said.strip().splitlines()) == 1
    assert not out.exists()


def test_the_command_is_told_without_the_files_that_it_wrote() -> None:
    typed = ["bench", "--rtt-ms", "20", "60", "--json", "/a/b.json", "--plot", "p.png", "--seed", "3"]
    assert command_typed(typed) == "spec-decode bench --rtt-ms 20 60 --seed 3"
    assert (
        command_typed(["bench", "--json=/a/b.json", "--pair=my.yaml"]) == "spec-decode bench --pair=my.yaml"
    )
