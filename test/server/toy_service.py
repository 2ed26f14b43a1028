"""`spec-decode serve` with the toy target, which is loaded as soon as a file is there.

python toy_service.py SECONDS_A_PASS FILE ARGUMENT...
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from server.toys import ToyVerifier
    from spec_decode_ros.cli import main
    from spec_decode_ros.models.warmup import PassTiming
    from spec_decode_ros.server import service_process
    from spec_decode_ros.server.service import Target, VerifierService

    pass_s, folder = float(sys.argv[1]), Path(sys.argv[2])

    class Hold:
        """What a pass waits for."""

        def wait(self, timeout_s: float) -> None:
            until = time.monotonic() + timeout_s
            while (folder / "hold").exists() and time.monotonic() < until:
                time.sleep(0.01)

    def load(config):
        until = time.monotonic() + 60.0
        while not (folder / "load").exists() and time.monotonic() < until:
            time.sleep(0.02)
        verifier = ToyVerifier(pass_s)
        verifier.gate = Hold()
        return Target(verifier, None, PassTiming(pass_s * 1000.0))

    service_process.VerifierService = lambda config, new_robot: VerifierService(config, new_robot, load)
    sys.exit(main(["serve", *sys.argv[3:]]))
