"""The ROS 2 nodes; with lab and launch files the only place that imports rclpy.

However a node is started, this is imported first: what is missing is then named in one sentence.
"""

import sys
from types import TracebackType

from spec_decode_ros.extras import missing_module_sentence

_others = sys.excepthook


def _explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = missing_module_sentence(error.name or "") if isinstance(error, ModuleNotFoundError) else None
    if sentence is None:
        _others(kind, error, trace)
    else:
        print(f"{sys.argv[0].rpartition('/')[2]}: {sentence}", file=sys.stderr)


sys.excepthook = _explain
