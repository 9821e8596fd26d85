"""Packages of conda's that nothing is linked to any more, while other servers sweep them too."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from windlassd.envs import _conda_cache


def package(root: Path, name: str) -> Path:
    """An unpacked package with two files that was put there long ago."""
    place = root / "conda" / "packages" / name
    place.mkdir(parents=True)
    for file in ("a", "b"):
        (place / file).touch()
    os.utime(place, (1, 1))
    return place


def test_what_no_environment_is_linked_to_goes(tmp_path: Path) -> None:
    used, unused = package(tmp_path, "used"), package(tmp_path, "unused")
    os.link(used / "b", tmp_path / "linked")
    _conda_cache.drop_unused(str(tmp_path))
    assert used.exists() and not unused.exists()


def test_a_package_that_vanishes_meanwhile_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = package(tmp_path, "vanishing")
    walk = os.walk

    def walked(path: str) -> list[tuple[str, list[str], list[str]]]:
        seen = list(walk(path))
        shutil.rmtree(place)  # another server's sweep
        return seen

    monkeypatch.setattr(os, "walk", walked)
    _conda_cache.drop_unused(str(tmp_path))
    assert not place.exists()


def test_what_channels_had_long_ago_goes_also_when_another_server_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tmp_path / "conda" / "repodata"
    known.mkdir(parents=True)
    (known / "abc.json").touch()
    newest = _conda_cache._newest

    def faster(path: str) -> float:
        found = newest(path)
        os.unlink(path)
        return found

    monkeypatch.setattr(_conda_cache, "_newest", faster)
    _conda_cache.sweep_channels(str(tmp_path), 1e12)
    assert not list(known.iterdir())
