"""Profiles of times for virtual time: reading them, and making them by timing models of published shapes."""
