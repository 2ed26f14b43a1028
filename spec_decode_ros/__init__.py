"""Speculative edge-cloud decoding for robots driven by vision-language models."""

__version__ = "0.1.0"
