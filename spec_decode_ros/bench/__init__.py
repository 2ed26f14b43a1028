"""Comparing methods: virtual time, emulated networks, baselines, plots."""
