"""Bags through the stack: read a rosbag2, decide on its frames again, and compare with what was recorded.

`bag` reads, `pairing` finds the frame behind every recorded action, `moments` says what is to be decided, `play`
decides, `compare` and `report` say what differs. No ROS and no rosbag2 has to be installed for any of it.
"""
