"""Replay of bags: read a rosbag2, decide on its frames again, and compare the actions with those recorded.

`bag` reads, `pairing` finds the frame of every recorded action, `moments` lists the decisions to make, `play` and `live`
make them, `compare`, `report` and `plot` show what differs. Neither ROS nor rosbag2 has to be installed.
"""
