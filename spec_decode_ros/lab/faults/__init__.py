"""Faults injected on purpose, and what robots, links and servers make of them."""
