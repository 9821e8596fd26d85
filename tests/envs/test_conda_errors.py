from __future__ import annotations

import pytest

from windlassd.envs._conda_channels import Channels
from windlassd.envs._conda_errors import died, failure

CHANNELS = Channels(("https://mirror.lab/forge", "file:///data/team"), ())


def said(kind: str, text: str, *asked: str, **more: object) -> tuple[str, bool]:
    found = failure({"kind": kind, "text": text, **more}, CHANNELS, asked)
    return found.message, found.transient


@pytest.mark.parametrize(
    ("kind", "text", "words", "transient"),
    [
        ("install", "failed to unpack `share/big`: No space left on device (os error 28)", "disk is full", True),
        ("channel", "error sending request for url (https://mirror.lab/forge/linux-64/repodata.json.zst)\n"
         "Caused by: tcp connect error", "channel https://mirror.lab/forge could not be reached", True),
        ("channel", "HTTP status client error (401 Unauthorized) for url (https://mirror.lab/forge/noarch/repodata.json)",
         "channel https://mirror.lab/forge refuses access", False),
        ("channel", "could not find subdir 'noarch' in channel 'file:///data/team/'",
         "channel file:///data/team does not exist", False),
        ("install", "hash mismatch when extracting x: expected 0, got 1", "not the one that was locked", False),
        ("install", "failed to link 'a'\nCaused by: target prefix cannot be longer than the placeholder prefix",
         "WINDLASS_HOME to a shorter path", False),
        ("install", "failed to fetch a-1.0-0.conda\nCaused by: no eligible writable layers to cache package to",
         "package cache cannot be written", True),
        ("unsolvable", "─ torch 1.0 would require\n   └─ __cuda >=11, for which no candidates were found", "need a GPU",
         False),
    ],
)  # fmt: skip
def test_each_failure_is_told_with_what_to_do(kind: str, text: str, words: str, transient: bool) -> None:
    message, may_work_later = said(kind, text)
    assert words in message
    assert may_work_later == transient


def test_a_missing_dependency_is_not_taken_for_the_users_own_entry() -> None:
    tree = "─ tool 1.0 would require\n   └─ libgone >=1, for which no candidates were found"
    message, _ = said("unknown", tree, "tool=1.0", name="libgone", near=[], elsewhere=[])
    assert "'libgone', which the conda packages need" in message and "tool 1.0 would require" in message
    message, _ = said("unknown", tree, "libgone", name="libgone", near=["libgo"], elsewhere=[])
    assert (
        "'libgone' is not in the channels https://mirror.lab/forge, file:///data/team. Did you mean 'libgo'?" in message
    )


def test_only_the_entries_of_a_conflict_are_named() -> None:
    tree = "The following packages are incompatible\n├─ numpy 1.21.* …\n└─ tool 2.0 would require\n   └─ numpy >=1.25"
    message, _ = said("unsolvable", tree, "numpy=1.21", "tool", "numpy-base", "python >=3.7")
    assert "'numpy=1.21', 'tool' do not fit together" in message


def test_a_long_tree_is_cut_in_the_middle() -> None:
    message, _ = said("unsolvable", "\n".join(f"line {n}" for n in range(99)), "tool")
    assert "line 0\n" in message and "line 98\n" in message and len(message.splitlines()) <= 15


def test_a_killed_solver_may_have_lacked_memory() -> None:
    assert "memory" in died(-9, "").message and died(-9, "").transient
    assert "status 1: ValueError: x" in died(1, "Traceback\nValueError: x").message
