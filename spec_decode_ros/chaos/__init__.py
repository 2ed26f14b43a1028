"""Robots act while everything around them is broken on purpose, and every action is accounted for."""
