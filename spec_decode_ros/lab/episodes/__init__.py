"""Episodes in the simulated rooms, for training, benchmarks and the demo: an expert, closed-loop runs, pictures."""

import spec_decode_ros.sim  # noqa: F401  # sets MUJOCO_GL, which MuJoCo reads when it is imported
