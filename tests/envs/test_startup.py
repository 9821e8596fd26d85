"""What a server's start and a cached environment do not wait for: libraries that only building something needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs.cache import EnvironmentCache

ROOT = Path(__file__).parent.parent.parent
_HEAVY = ("docker", "rattler", "uv", "requests")
"""docker-py and what it is made of, py-rattler, and the package around uv."""
_TELL = f"; import sys, json; print(json.dumps([name for name in {_HEAVY!r} if name in sys.modules]))"


def _loaded(code: str, *arguments: str) -> list[str]:
    """Which of the heavy ones a fresh process has loaded after ``code``."""
    done = subprocess.run([sys.executable, "-c", code + _TELL, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("module", ["windlassd.__main__", "windlassd.server.main", "windlassd.agent.__main__"])
def test_a_server_and_an_agent_start_without_what_builders_need(module: str) -> None:
    assert _loaded(f"import {module}") == []


def test_the_modules_of_the_room_load_them_when_they_use_them() -> None:
    at_top: dict[str, set[str]] = {}
    for path in (ROOT / "src" / "windlassd" / "envs").glob("*.py"):
        lines = [
            line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(("import ", "from "))
        ]
        found = {line.split()[1].split(".")[0] for line in lines} & set(_HEAVY)
        at_top |= {path.stem: found} if found else {}
    at_top.pop("_conda_worker", None)  # a program of its own
    assert at_top == {"_uv": {"uv"}}, "the package around uv is a few lines, and that module is loaded to run it"


def test_a_cached_environment_is_found_without_them(tmp_path: Path) -> None:
    spec = EnvironmentSpec(pip_packages=())
    cache = EnvironmentCache(str(tmp_path))
    made = cache.prepare(spec, lambda line: None)
    cache.join()
    cache.close()
    code = (
        "import sys; from windlass.specs.environment import EnvironmentSpec; "
        "from windlassd.envs.cache import EnvironmentCache; "
        "found = EnvironmentCache(sys.argv[1]).find(EnvironmentSpec(pip_packages=())); assert found.key == sys.argv[2]"
    )
    assert [name for name in _loaded(code, str(tmp_path), made.key) if name != "uv"] == []
