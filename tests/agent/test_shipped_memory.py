"""What a killed agent had sent is known to the next, as far as it was written down."""

from __future__ import annotations

import os
from pathlib import Path

from windlassd.agent.shipped_memory import Memory, Sent
from windlassd.blobs.run_folder import RunFolder


def sent(name: str, size: int = 1) -> Sent:
    return Sent(name, 7, size, 1_000_000_001, "a" * 64, False)


def test_the_next_agent_knows_what_was_sent_and_what_is_gone(folder: RunFolder) -> None:
    first = Memory(folder)
    first.add([sent("outputs/a"), sent("outputs/b"), sent("outputs/new\nline é")])
    first.add([sent("outputs/a", 2)])
    first.remove(["outputs/b", "outputs/never"])
    for memory in (first, Memory(folder)):
        assert memory.names() == {"outputs/a", "outputs/new\nline é"}
        assert memory.get("outputs/a") == sent("outputs/a", 2) and memory.get("outputs/b") is None


def test_lines_that_are_torn_or_junk_are_passed_over(folder: RunFolder) -> None:
    Memory(folder).add([sent("outputs/a"), sent("outputs/b")])
    path = Path(folder.agent, "shipped")
    path.write_bytes(b'["outputs/x", 1]\n{}\n[]\n7\n' + path.read_bytes()[:-10])
    assert Memory(folder).names() == {"outputs/a"}
    path.write_bytes(b"\xff\xfe")
    assert Memory(folder).names() == set()


def test_what_cannot_be_noted_is_known_all_the_same(folder: RunFolder) -> None:
    os.mkdir(os.path.join(folder.agent, "shipped"))
    memory = Memory(folder)
    memory.add([sent("outputs/a")])
    assert memory.names() == {"outputs/a"} and Memory(folder).names() == set()
