"""`spec-decode serve` with the toy target, which is loaded as soon as a file is there.

python toy_service.py SECONDS_A_PASS FILE ARGUMENT...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from runtime.toys import ToyVerifier
    from spec_decode_ros.cli import main
    from spec_decode_ros.commands import serve
    from spec_decode_ros.models.pair import load_pair_config
    from spec_decode_ros.runtime.service import Target, VerifierService
    from spec_decode_ros.runtime.warmup import Pace

    pass_s, gate = float(sys.argv[1]), Path(sys.argv[2])

    def load(config):
        until = time.monotonic() + 60.0
        while not gate.exists() and time.monotonic() < until:
            time.sleep(0.02)
        return Target(load_pair_config(config.pair), ToyVerifier(pass_s), None, Pace(pass_s * 1000.0))

    serve.VerifierService = lambda config, new_robot: VerifierService(config, new_robot, load)
    sys.exit(main(["serve", *sys.argv[3:]]))
