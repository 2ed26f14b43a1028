"""The demo: missions over ROS 2 with a simulated robot, their report, and episodes with a simulated Go2.

stack: the processes. mission: gives the command and records. goal: judges the end. report: summary and pictures. go2:
episodes through Unitree's services. robot_log: reads the simulated Go2's log. walk: reads velocities from a bag.
"""
