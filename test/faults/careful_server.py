"""A verifier of the toy target that takes no frame whose end is missing, as a decoder of JPEGs does not either.

`python careful_server.py ENDPOINT`; ends with its input.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from server.toys import ToyVerifier, ToyVerifySession

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.verifier_server import VerifierServer

END = b"\xff\xd9"
PASS_S = 0.002


class CarefulVerifier(ToyVerifier):
    def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> ToyVerifySession:
        if not all(image.endswith(END) for image in images):
            raise SpecDecodeError("The image can't be read; send a JPEG.")
        return super().prepare(prompt, images)


if __name__ == "__main__":
    server = VerifierServer(CarefulVerifier(PASS_S), "toy", ServiceConfig(bind=sys.argv[1]))
    print(f"ready {server.start(own_process=True)}", flush=True)
    sys.stdin.read()
    server.stop()
