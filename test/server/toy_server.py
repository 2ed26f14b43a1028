"""A verifier of the toy target as a process: `python toy_server.py ENDPOINT SECONDS_A_PASS`; ends with its input."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from server.toys import ToyVerifier
    from spec_decode_ros.server.config import ServiceConfig
    from spec_decode_ros.server.verifier_server import VerifierServer

    with VerifierServer(ToyVerifier(float(sys.argv[2])), "toy", ServiceConfig(bind=sys.argv[1])) as server:
        print(f"ready {server.endpoint}", flush=True)
        sys.stdin.read()
