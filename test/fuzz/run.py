"""Fuzz what takes bytes from strangers, guided by coverage: `python test/fuzz/run.py --target server --runs 1000000`.

Needs atheris (`pip install atheris`); with --blind it goes without, and without guidance. A failure leaves its input
in OUT/TARGET/crash-*, and `--replay FILE` tries it again. Writes OUT/TARGET/report.json:

    messages, executions    how many were tried
    edges, features         what libFuzzer counted as covered
    crashes                 inputs that made the software do what it must not
    rss_mb                  memory after a fifth of the run, and at its end
    replayed_rss_mb         the same while all inputs that it kept are tried over and over, so that nothing is new
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from fuzz import cases  # noqa: E402
from fuzz.account import Account  # noqa: E402
from fuzz.targets import TARGETS, Target  # noqa: E402

_COVERED = re.compile(r"cov: (\d+) ft: (\d+)")


def blind(target: Target, wanted: int, seed: int) -> Account:
    """Mutated seeds, the same ones for the same `seed`. Raises what the target raises."""
    rng = random.Random(seed)
    originals = target.seeds()
    account = Account(wanted)
    with target.open() as attempt:
        for data in originals:
            attempt(data)
        while True:
            data = rng.choice(originals)
            for _ in range(rng.randrange(1, 5)):
                data = cases.mutated(data, rng, target.longest) if target.structured else _damaged(data, rng)
            if account.add(attempt(data)):
                return account


def _damaged(data: bytes, rng: random.Random) -> bytes:
    made = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if made:
            made[rng.randrange(len(made))] = rng.randrange(256)
    return bytes(made[: rng.randrange(len(made) + 1)] if rng.random() < 0.1 else made)


def replayed(target: Target, files: list[Path], wanted: int) -> Account:
    """Try the same inputs over and over."""
    account = Account(wanted)
    inputs = [file.read_bytes() for file in files]
    with target.open() as attempt:
        while True:
            for data in inputs:
                if account.add(attempt(data)):
                    return account


def campaign(name: str, runs: int, seed: int, out: Path) -> dict[str, object]:
    """Fuzz one target in a child process, then look for leaks in another; returns the report."""
    target, folder = TARGETS[name], out / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    (folder / "child.json").unlink(missing_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed-{number:02d}").write_bytes(data[: target.longest])
    paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "fuzz.guided", name, str(runs), str(seed), str(folder)]
        done = subprocess.run(command, stdout=log, stderr=log, env=environment)
    covered = _COVERED.findall((folder / "log").read_text(errors="replace"))
    report: dict[str, object] = {"target": name, "seed": seed, "exit_code": done.returncode}
    if (folder / "child.json").exists():
        report |= json.loads((folder / "child.json").read_text())
    report["edges"], report["features"] = map(int, covered[-1]) if covered else (0, 0)
    report["corpus"] = len(list(corpus.iterdir()))
    found = [
        *folder.glob("crash-*"),
        *folder.glob("timeout-*"),
        *folder.glob("oom-*"),
        *folder.glob("leak-*"),
    ]
    report["crashes"] = sorted(path.name for path in found)
    if not report["crashes"] and done.returncode == 0:
        command = [sys.executable, __file__, "--target", name, "--runs", str(max(1, runs // 5))]
        again = subprocess.run([*command, "--replay", str(corpus)], capture_output=True, text=True)
        if again.returncode:
            report["crashes"] = [again.stderr.strip().splitlines()[-1] if again.stderr else "replay failed"]
        else:
            report["replayed_messages"] = json.loads(again.stdout)["messages"]
            report["replayed_rss_mb"] = json.loads(again.stdout)["rss_mb"]
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument(
        "--runs", type=int, default=100_000, help="messages to try for each target (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--blind", action="store_true", help="without atheris and coverage, in this process")
    parser.add_argument("--replay", type=Path, help="only try a file, or a folder's files, over and over")
    args = parser.parse_args()
    if args.replay:
        files = sorted(args.replay.iterdir()) if args.replay.is_dir() else [args.replay]
        print(json.dumps(replayed(TARGETS[args.target], files, args.runs).as_dict()))
        return 0
    if not args.blind and importlib.util.find_spec("atheris") is None:
        print(
            "Fuzzing is guided by atheris, which is not here: pip install atheris, or say --blind.",
            file=sys.stderr,
        )
        return 2
    failed = False
    for name in TARGETS if args.target == "all" else [args.target]:
        if args.blind:
            report: dict[str, object] = {
                "target": name,
                **blind(TARGETS[name], args.runs, args.seed).as_dict(),
            }
        else:
            report = campaign(name, args.runs, args.seed, args.out)
            failed = failed or bool(report["crashes"]) or report["exit_code"] != 0
        print(json.dumps(report))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
