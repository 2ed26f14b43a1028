"""The operator's terminal: commands in language, what the models say of them, and a stop that is always at hand.

Nothing here knows ROS: the robot is reached through :class:`~spec_decode_ros.teleop.port.RobotPort`, and what it
tells arrives as events of the same file.
"""
