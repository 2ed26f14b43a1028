"""The operator's terminal: commands in plain language, what the models decode, and a stop key that always works.

Nothing here imports ROS: the robot is reached through :class:`~spec_decode_ros.teleop.port.RobotPort`, and its
events are those of the same file.
"""
