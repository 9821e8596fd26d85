"""``Environment.from_existing_conda_environment``: found and read without conda."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from windlass import Environment, settings
from windlass.errors import UserErrorException


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home in which nothing of this machine's own conda is seen."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("CONDA_EXE", "MAMBA_EXE", "CONDA_PREFIX", "CONDA_ENVS_PATH", "MAMBA_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def conda_environment(prefix: Path) -> Path:
    """A prefix as conda leaves it, with a package from pip beside."""
    meta, site = prefix / "conda-meta", prefix / "lib" / "python3.9" / "site-packages"
    site.mkdir(parents=True)
    meta.mkdir()
    (meta / "history").write_text("")
    for name, version, channel, files in (
        ("python", "3.9.18", "https://host.example/t/to-ken/main/linux-64", []),
        ("scikit-learn", "1.3.0", "https://me:pass@host.example/forge/linux-64",
         ["lib/python3.9/site-packages/scikit_learn-1.3.0.dist-info/METADATA"]),
        ("older", "1", "file:///channel/noarch", ["lib/python3.9/site-packages/other_name-1.dist-info/METADATA"]),
    ):  # fmt: skip
        (meta / f"{name}-{version}-0.json").write_text(
            json.dumps({"name": name, "version": version, "build": "0", "channel": channel, "files": files})
        )
    installed(site, "scikit_learn-1.3.0")
    installed(site, "other_name-1")
    installed(site, "My.Pkg-2.0")
    installed(site, "wheel_like-1.0", url="https://files.example/wheel_like-1.0.whl", archive_info={})
    installed(site, "from_git-1.0", url="https://git.example/x", vcs_info={"vcs": "git", "commit_id": "abc"})
    return prefix


def installed(site: Path, name: str, **origin: Any) -> None:
    folder = site / f"{name}.dist-info"
    folder.mkdir()
    if origin:
        (folder / "direct_url.json").write_text(json.dumps(origin))


def test_every_package_stands_in_its_version(user: Path) -> None:
    prefix = conda_environment(user / "miniforge3" / "envs" / "mine")
    for name in ("mine", str(prefix)):
        made = Environment.from_existing_conda_environment("e", name)
        assert made is not None and made.name == "e"
        packages = made.python.conda_dependencies
        assert packages is not None and packages.get_python_version() == "3.9.18"
        assert list(packages.conda_packages) == ["older=1", "scikit-learn=1.3.0"]
        assert list(packages.pip_packages) == [
            "my-pkg==2.0", "from-git @ git+https://git.example/x@abc",
            "wheel-like @ https://files.example/wheel_like-1.0.whl",
        ]  # fmt: skip
        assert list(packages.conda_channels) == [
            "file:///channel", "https://host.example/main", "https://host.example/forge",
        ]  # fmt: skip


def test_environments_are_found_where_conda_would_look(user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "by_rc": user / "rc" / "by_rc", "by_list": user / "listed" / "envs" / "by_list",
        "by_path": user / "var" / "by_path", "by_program": user / "tool" / "envs" / "by_program",
        "by_prefix": user / "active" / "by_prefix", "base": user / "tool",
    }  # fmt: skip
    for prefix in found.values():
        (prefix / "conda-meta").mkdir(parents=True)
        (prefix / "conda-meta" / "a.json").write_text(json.dumps({"name": prefix.name, "version": "1"}))
    (user / ".condarc").write_text(f"envs_dirs:\n  - {user}/rc\n")
    (user / ".conda").mkdir()
    (user / ".conda" / "environments.txt").write_text(f"{found['by_list']}\n{user}/gone\n")
    (user / "tool" / "condabin").mkdir()
    monkeypatch.setenv("CONDA_EXE", str(user / "tool" / "condabin" / "conda"))
    monkeypatch.setenv("CONDA_ENVS_PATH", str(user / "var"))
    monkeypatch.setenv("CONDA_PREFIX", str(found["by_prefix"]))
    assert settings.conda_programs() and str(user / "var") in settings.conda_folders()
    for name, prefix in found.items():
        made = Environment.from_existing_conda_environment("e", name)
        assert made is not None and made.python.conda_dependencies is not None
        assert list(made.python.conda_dependencies.conda_packages) == [f"{prefix.name}=1"]


def test_what_cannot_be_exported_is_none_and_says_why(user: Path) -> None:
    prefix = conda_environment(user / "miniconda3" / "envs" / "mine")
    with pytest.warns(UserWarning, match=r"no conda environment 'mnie'.*Did you mean 'mine'.*Found: mine") as caught:
        assert Environment.from_existing_conda_environment("e", "mnie") is None
    assert caught[0].filename == __file__
    site = prefix / "lib" / "python3.9" / "site-packages"
    installed(site, "editable-1", url="file:///home/me/code", dir_info={"editable": True})
    with pytest.warns(UserWarning, match=r"editable was installed from the folder file:///home/me/code; make a wheel"):
        assert Environment.from_existing_conda_environment("e", "mine") is None
    (prefix / "conda-meta" / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match="cannot be exported"):
        assert Environment.from_existing_conda_environment("e", "mine") is None
    with pytest.raises(UserErrorException, match="conda_environment_name=None"):
        Environment.from_existing_conda_environment("e", None)  # type: ignore[arg-type]
