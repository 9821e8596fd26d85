"""uv's cache is not synced: what it lost is noticed, and fetched anew."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._installed import damaged
from windlassd.envs.base import Lock, Work
from windlassd.envs.interpreters import own
from windlassd.envs.venv import VenvBuilder, create
from windlassd.testing.package_index import PackageIndex

SPEC = EnvironmentSpec(pip_packages=("tiny", "other"), python_version=own().version)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    with PackageIndex() as made:
        made.add("tiny", files={"tiny/__init__.py": "import tiny.more\n", "tiny/more.py": "x = 1\n" * 50})
        made.add("other")
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", made.url)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        yield made


@pytest.fixture
def venv(tmp_path: Path) -> VenvBuilder:
    (tmp_path / "environments").mkdir()
    return create(str(tmp_path / "environments" / "interpreters.json"))


@pytest.mark.parametrize("file", ["tiny/more.py", "tiny-1.0.dist-info/METADATA", "tiny-1.0.dist-info/RECORD"])
@pytest.mark.parametrize("left", [0, 7])
def test_what_uvs_cache_has_lost_is_fetched_anew(
    file: str, left: int, index: PackageIndex, venv: VenvBuilder, tmp_path: Path
) -> None:
    lines: list[str] = []
    lock = venv.resolve(SPEC, Work(lines.append))
    first = _built(venv, lock, tmp_path / "first", lines)
    assert "damaged" not in "\n".join(lines) and damaged(str(first)) == []
    (kept,) = (tmp_path / "uv-cache").glob(f"archive-v*/*/{file}")
    os.truncate(kept, left)
    second = _built(venv, lock, tmp_path / "second", lines)
    assert damaged(str(second)) == [] and venv.check(lock, str(second), Work(lines.append)) is None
    subprocess.run([second / "bin" / "python", "-c", "import tiny; assert tiny.more.x"], check=True)
    assert "tiny" in next(line for line in lines if "damaged" in line)


def test_a_package_that_tells_wrong_sizes_itself_is_installed_all_the_same(
    index: PackageIndex, venv: VenvBuilder, tmp_path: Path
) -> None:
    name = index.add("tiny", "2.0", files={"tiny/__init__.py": "x = 1\n"})
    index.files[name] = index.files[name].replace(b",6\n", b",7\n")
    index.files[name] = _with_checksums(index.files[name])
    lock = venv.resolve(SPEC, Work(_drop))
    prefix = _built(venv, lock, tmp_path / "first", [])
    assert damaged(str(prefix)) == ["tiny"] and venv.check(lock, str(prefix), Work(_drop)) is None


def _with_checksums(wheel: bytes) -> bytes:
    """The archive with checksums that suit its contents again."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as old, zipfile.ZipFile(made, "w") as new:
        for info in old.infolist():
            start = info.header_offset + 30 + len(info.filename)
            new.writestr(info.filename, wheel[start : start + info.file_size])
    return made.getvalue()


def _built(venv: VenvBuilder, lock: Lock, folder: Path, lines: list[str]) -> Path:
    prefix = folder / "environment"
    prefix.mkdir(parents=True)
    venv.build(lock, str(prefix), Work(lines.append))
    return prefix


def _drop(line: str) -> None:
    pass
