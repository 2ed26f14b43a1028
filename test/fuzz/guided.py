"""One target under libFuzzer, in a process of its own: everything is imported under instrumentation."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["spec_decode_ros", "PIL"]):
    from fuzz import cases
    from fuzz.account import Account
    from fuzz.targets import TARGETS, Target


def guided(target: Target, wanted: int, seed: int, folder: Path) -> None:
    """Fuzz until `wanted` messages were tried; then this process ends, with the account in `folder`/child.json."""
    with atheris.instrument_imports(include=["spec_decode_ros", "PIL"]):
        opened = target.open()
        attempt = opened.__enter__()
    account = Account(wanted)

    def one(data: bytes) -> None:
        if account.add(attempt(data)):
            (folder / "child.json").write_text(json.dumps(account.as_dict()))
            opened.__exit__(None, None, None)
            os._exit(0)  # libFuzzer itself counts only executions

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        return cases.mutated(data, rng, longest) if rng.random() < 0.6 else atheris.Mutate(data, longest)

    arguments = [
        sys.argv[0],
        f"-seed={seed}",
        f"-max_len={target.longest}",
        "-timeout=60",
        "-rss_limit_mb=4096",
        "-len_control=0",
        f"-artifact_prefix={folder}/",
        str(folder / "corpus"),
    ]
    atheris.Setup(arguments, one, custom_mutator=mutate if target.structured else None)
    atheris.Fuzz()


if __name__ == "__main__":
    name, wanted, seed, out = sys.argv[1:]
    guided(TARGETS[name], int(wanted), int(seed), Path(out))
