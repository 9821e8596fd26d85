"""One table of options, and where a value comes from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from windlass import settings
from windlass.errors import UserErrorException


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder deep inside, which is the current one."""
    deep = tmp_path / "project" / "src" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path / "project"


def put(path: Path, **values: object) -> None:
    path.write_text(json.dumps(values))


def test_environment_then_project_then_user_then_default(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.get("stop_grace_s") == 10.0
    put(home / "settings.json", stop_grace_s=1)
    assert settings.get("stop_grace_s") == 1.0
    put(project / "windlass.json", stop_grace_s=2.5)
    assert settings.get("stop_grace_s") == 2.5
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "3")
    assert settings.get("stop_grace_s") == 3.0


def test_the_nearest_project_file_counts_and_what_it_lacks_is_the_users(project: Path, home: Path) -> None:
    put(home / "settings.json", heartbeat_s=7)
    put(project / "windlass.json", stop_grace_s=1)
    put(project / "src" / "windlass.json", stop_grace_s=2)
    assert (settings.get("stop_grace_s"), settings.get("heartbeat_s")) == (2.0, 7.0)


def test_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_SNAPSHOT_MAX_MB", "1.5")
    assert settings.get("snapshot_max_mb") == 1536 * 1024


@pytest.mark.parametrize("value", ["", "ten", "1,5", "0x10", "None"])
def test_a_bad_value_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WINDLASS_LOCAL_SLOTS", value)
    with pytest.raises(UserErrorException) as caught:
        settings.get("local_slots")
    for word in ("local_slots", "environment variable WINDLASS_LOCAL_SLOTS", repr(value), "must be a whole number"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [("WINDLASS_PYTHON_DOWNLOADS", "maybe", "'automatic' or 'never'"),
     ("WINDLASS_ENVIRONMENT_BUILDS", "1e9", "a whole number")],
)  # fmt: skip
def test_a_bad_value_is_told_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserErrorException, match=f"environment variable {variable} is '{value}'; it must be {allowed}"):
        settings.get(variable[len("WINDLASS_") :].lower())


@pytest.mark.parametrize("value", [None, "many", [1], True])
def test_a_bad_value_names_the_file(home: Path, value: object) -> None:
    put(home / "settings.json", heartbeat_s=value)
    with pytest.raises(UserErrorException, match=r"heartbeat_s in .*settings\.json"):
        settings.get("heartbeat_s")


@pytest.mark.parametrize("value", ["0", "0.0", "-1"])
def test_no_retention_is_said_by_leaving_it_out(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WINDLASS_RETENTION_DAYS", value)
    with pytest.raises(UserErrorException, match=r"retention_days .* it must be a number of at least 0\.01"):
        settings.get("retention_days")


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "\xff"])
def test_a_broken_file_is_named(home: Path, text: str) -> None:
    (home / "settings.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserErrorException, match=r"The settings file .*settings\.json"):
        settings.get("heartbeat_s")


def test_values_are_looked_up_when_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("1", "2"):
        monkeypatch.setenv("WINDLASS_HEARTBEAT_S", value)
        assert settings.get("heartbeat_s") == float(value)


def test_a_current_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    assert settings.get("stop_grace_s") == 10.0


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINDLASS_HOME", "relative")
    assert settings.home() == str(tmp_path / "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WINDLASS_HOME", "~/w")
    assert settings.home() == str(tmp_path / "w")
    monkeypatch.setenv("WINDLASS_HOME", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert settings.home() == str(tmp_path / "data" / "windlass")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert settings.home() == str(tmp_path / ".local" / "share" / "windlass")


def test_a_job_knows_its_run_only_when_all_of_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AZUREML_RUN_ID", "r"), ("WINDLASS_WORKSPACE_DIR", "/w"), ("WINDLASS_SPOOL_DIR", "/s")):
        assert settings.job_context() is None
        monkeypatch.setenv(name, value)
    assert settings.job_context() == settings.JobContext("r", "/w", "/s")


def test_a_childs_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/x")
    monkeypatch.setenv("KEPT", "yes")
    child = settings.child_environment(("PYTHON",))
    assert child["KEPT"] == "yes" and "PYTHONPATH" not in child and "PYTHONPATH" in settings.child_environment()


def test_work_that_must_go_on_keeps_the_value_from_before(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = home / "settings.json"
    file.write_text('{"heartbeat_s": 2}')
    assert settings.steady("heartbeat_s") == 2
    file.write_text('{"heartbeat_s"')  # an editor is half-way through it
    assert settings.steady("heartbeat_s") == 2 and "heartbeat_s stays as it was" in caplog.text
    with pytest.raises(UserErrorException):
        settings.get("heartbeat_s")
    file.write_text('{"heartbeat_s": 3}')
    assert settings.steady("heartbeat_s") == 3


def test_the_table_is_in_order() -> None:
    for setting in settings.TABLE:
        assert setting.variable == "WINDLASS_" + setting.name.upper() and setting.help.endswith(".")
    assert len({s.name for s in settings.TABLE}) == len(settings.TABLE)


def test_a_name_that_is_no_setting_is_refused_and_not_passed_over(home: Path) -> None:
    (home / settings.USER_FILE).write_text('{"server_idle": 5}')
    with pytest.raises(UserErrorException, match=r"sets 'server_idle', which is no setting.*server_idle_s"):
        settings.get("local_slots")
