"""Faults injected into the running stack, and the time until the robot stops, measured at the robot's end."""
