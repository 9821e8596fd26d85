"""What a node says of itself."""

from __future__ import annotations

import json
import os
import platform
import socket
from pathlib import Path

import pytest

import windlassd
from windlass.specs._codec import known_fields
from windlass.specs.launch import PROTOCOL
from windlassd.agent import facts
from windlassd.compute.base import Target
from windlassd.envs.target import platform_name


def test_they_are_what_engines_ask_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts.main() == 0
    told = json.loads(capsys.readouterr().out)
    target = Target(**known_fields(Target, told))
    assert target.platform == platform_name()
    assert target.pythons[platform.python_version()]
    assert all(os.access(path, os.X_OK) for path in target.pythons.values())
    assert target.gpus is bool(told["gpu_indices"])
    assert told["cpus"] >= 1
    assert told["memory_bytes"] > 1 << 28
    assert told["free_disk_bytes"] > 0
    assert (told["home"], told["host"]) == (str(home), socket.gethostname())
    assert (told["version"], told["protocol"]) == (windlassd.__version__, PROTOCOL)
