"""What drafter_node reports on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spec_decode_ros.edge.frame_loop import FrameLoop
from spec_decode_ros.edge.link_watch import SILENCE_S, WITHOUT_LINK
from spec_decode_ros.edge.stack import EdgeStack
from spec_decode_ros.nodes.common import ERROR, OK, WARN, Health


def drafter_health(stack: EdgeStack, loop: FrameLoop, settings: Mapping[str, Any]) -> Health:
    """The most pressing problem, or that all is well, with the numbers of the newest actions."""
    client, link_lost = stack.client, loop.link.lost
    values: dict[str, object] = {
        "pair": stack.pair,
        "method": stack.method,
        "command": loop.command or "",
        "resting": loop.pilot.resting,
        "act_on_draft": settings["act_on_draft"],
        "on_link_loss": settings["on_link_loss"],
        "link_lost": link_lost,
        **loop.statistics.values(),
    }
    if client is not None:
        connected = client.ready and client.silence_s < SILENCE_S
        values |= {"endpoint": client.endpoint, "connected": connected, "failovers": client.failovers}
        values["target_fingerprint"] = client.welcome.target_fingerprint if client.welcome else ""
        values["rtt_ms"] = "" if client.rtt_ms is None else client.rtt_ms
        if client.refusal:
            return Health(ERROR, client.refusal, values)
        if link_lost or not connected:
            gone = f"the verifier at {' or '.join(client.endpoints)} does not answer"
            return Health(WARN, f"{gone}: {WITHOUT_LINK[settings['on_link_loss']]}", values)
    if loop.statistics.problem:
        return Health(WARN, loop.statistics.problem, values)
    if loop.command is None:
        return Health(OK, "waiting for a command", values)
    if loop.frame is None:
        return Health(WARN, "waiting for a camera frame", values)
    return Health(OK, "resting until the next command" if loop.pilot.resting else "deciding", values)
