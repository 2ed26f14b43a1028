"""The whole system once on one machine: a mission over real processes and ROS 2 topics, then the methods side by side."""
