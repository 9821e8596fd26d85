"""Engines by name."""

from __future__ import annotations

import pytest

from windlass.errors import ComputeTargetException
from windlassd.compute import registry
from windlassd.testing.engine_suite import RecordingLink


@pytest.mark.parametrize("name", ["local", "fake"])
def test_an_engine_knows_its_name(name: str) -> None:
    assert registry.load(name, RecordingLink()).name == name


def test_an_unknown_engine_is_refused_with_near_matches() -> None:
    words = r"no engine 'locl'.*Did you mean 'local'.*apart, fake, local, netns"
    with pytest.raises(ComputeTargetException, match=words):
        registry.load("locl", RecordingLink())
