from __future__ import annotations

import pytest

from windlassd.envs._asked_hashes import with_asked_hashes
from windlassd.envs.base import EnvironmentFailed

PINS = ["a==1 --hash=sha256:aa --hash=sha256:bb", "b==2 --hash=sha256:cc"]


def test_the_lock_holds_just_the_hashes_that_are_asked_for() -> None:
    assert with_asked_hashes(PINS, ["A == 1 --hash=sha256:BB", "b"]) == ["a==1 --hash=sha256:bb", PINS[1]]


def test_a_hash_of_another_kind_is_left_to_the_installation() -> None:
    assert with_asked_hashes(PINS, ["a==1 --hash=sha512:ee"])[0] == "a==1 --hash=sha512:ee"


def test_a_hash_that_the_index_does_not_have_names_package_and_hashes() -> None:
    with pytest.raises(EnvironmentFailed, match=r"'a==1' is not .* sha256:ee\. There are: sha256:aa, sha256:bb"):
        with_asked_hashes(PINS, ["a==1 --hash=sha256:ee"])


def test_without_hashes_nothing_changes() -> None:
    assert with_asked_hashes(PINS, ["a", "b>1"]) == PINS
