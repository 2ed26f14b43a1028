"""The command that plans a fleet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from spec_decode_ros import cli

REGIONS = """
currency: EUR
regions:
  - {name: near, share: 0.75, rtt_ms: 20, gpu_hour: 3}
  - {name: far, share: 0.25, rtt_ms: 100, gpu_hour: 2}
"""

PROFILE = """
source: made up for a test
rtts_ms: [1]
acceptances: [0.7]
draft_ms: 8
world: {tokens: 8, prefill_ms: 30, step_ms: 20, per_token_ms: 0.5, server_draft_token_ms: 3}
"""


def test_a_fleet_is_planned_printed_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    regions, profile = tmp_path / "two.yaml", tmp_path / "short.yaml"
    plot, told = tmp_path / "plan.png", tmp_path / "plan.json"
    regions.write_text(REGIONS)
    profile.write_text(PROFILE)
    monkeypatch.setenv("COLUMNS", "100")
    asked = ["--robots", "8", "100000", "--regions", str(regions), "--rate", "1", "--goal-p95-ms", "600"]
    out = ["--plot", str(plot), "--json", str(told)]
    assert cli.main(["simulate", "--fleet", "--profile", str(profile), *asked, *out]) == 0
    said = capsys.readouterr().out
    assert "EUR per robot hour" in said and "predicted" in said and "600 ms" in said
    with Image.open(plot) as image:
        assert min(image.size) > 400
    document = json.loads(told.read_text())
    variants = ["cloud", "colocated", "auto latency", "auto balanced", "auto cost"]
    for fleet, variant in ((fleet, variant) for fleet in (8, 100_000) for variant in variants):
        needs = {
            need["region"]: need
            for need in document["needs"]
            if (need["fleet"], need["variant"]) == (fleet, variant)
        }
        assert set(needs) == {"near", "far", "total"}
        near, far, total = needs["near"], needs["far"], needs["total"]
        assert (near["robots"], far["robots"]) == (fleet * 3 // 4, fleet // 4)
        assert all(0 < need["p50_ms"] <= need["p95_ms"] for need in needs.values())
        if total["gpus"] is None:
            assert total["cost"] is None and None in (near["gpus"], far["gpus"])
            continue
        assert total["gpus"] == near["gpus"] + far["gpus"]
        assert total["p95_ms"] <= 600 and near["p95_ms"] <= 600 and far["p95_ms"] <= 600
        assert total["cost"] * fleet == pytest.approx(3 * near["gpus"] + 2 * far["gpus"])
    for gain in document["gains"]:
        assert gain["predicted"] > 1 and gain["simulated"]["colocated"] == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "--profile P, --grid or --fleet"),
        (["--fleet", "--grid"], "choose one"),
        (["--profile", "go2", "--robots", "3"], "--robots is about a fleet: add --fleet"),
        (["--grid", "--sticky", "even"], "--sticky is about a fleet"),
        (["--fleet", "--robots", "0"], "from 1 to"),
        (["--fleet", "--rate", "0"], "rate is above 0"),
        (["--fleet", "--rate", "nan"], "--rate is nan"),
        (["--fleet", "--goal-p95-ms", "-1"], "a goal above 0"),
        (["--fleet", "--acceptance", "1.5"], "from 0 to 1"),
        (["--fleet", "--regions", "moon"], "no fleet 'moon'"),
        (["--fleet", "--regions", "nowhere.yaml"], "cannot read"),
        (["--fleet", "--profile", "mars"], "no profile 'mars'"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", *arguments]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert len(said.strip().splitlines()) == 1
