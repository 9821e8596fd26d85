"""Microsoft's azureml-core beside us is told."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import windlass
from windlass import _microsoft
from windlass._microsoft import warn_of_microsoft

SDK = Path(windlass.__file__).parent.parent


def test_nothing_is_said_without_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not warn_of_microsoft()


def test_its_files_over_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "azureml" / "_base_sdk_common").mkdir(parents=True)
    monkeypatch.setattr(_microsoft, "__file__", str(tmp_path / "windlass" / "_microsoft.py"))
    with pytest.warns(UserWarning, match="pip uninstall azureml-core"):
        assert warn_of_microsoft()


@pytest.mark.parametrize("name", ["azureml_core-1.61.0.dist-info", "azureml_core-1.0.2.dist-info"])
def test_its_installation_elsewhere_on_the_path(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    code = "from azureml.core import Workspace; print(Workspace.__module__)"
    path = f"import sys; sys.path[:0] = [{str(SDK)!r}]; sys.path += ['/nowhere', {str(tmp_path)!r}]; {code}"
    done = subprocess.run([sys.executable, "-I", "-c", path], capture_output=True, text=True, check=True)
    assert done.stdout == "windlass.workspace\n"
    assert done.stderr.count("pip uninstall azureml-core") == 1 and name in done.stderr


def test_our_own_metadata_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "azureml_core-1.61.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (tmp_path / "azureml_core-1.61.0.dist-info" / "INSTALLER").write_text("windlass\n")
    assert not warn_of_microsoft()
    (tmp_path / "azureml_core-1.61.0.dist-info" / "INSTALLER").write_text("pip\n")
    with pytest.warns(UserWarning, match="pip uninstall azureml-core"):
        assert warn_of_microsoft()


@pytest.mark.parametrize("name", ["azureml_mlflow-1.61.0.dist-info", "azureml_core", "azureml_core-x.egg"])
def test_other_folders_say_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "no.zip")])
    assert not warn_of_microsoft()
