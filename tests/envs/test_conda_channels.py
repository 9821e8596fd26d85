from __future__ import annotations

from pathlib import Path

import pytest

from windlassd.envs._conda_channels import ChannelSettings, channel_settings, channels
from windlassd.envs.base import EnvironmentFailed


@pytest.fixture
def condarc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file of conda's, the only one."""
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing"))
    for name in ("CONDA_CHANNEL_ALIAS", "CONDA_CHANNELS", "CONDA_DEFAULT_CHANNELS", "CONDA_SSL_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / ".condarc"
    monkeypatch.setenv("CONDARC", str(path))
    return path


def settings_of(condarc: Path, text: str) -> ChannelSettings:
    condarc.write_text(text)
    return channel_settings()


def test_without_settings_conda_forge_is_searched(condarc: Path) -> None:
    assert channels((), channel_settings()).addresses == ("conda-forge",)


def test_anacondas_channels_are_read_as_conda_forge_and_the_note_says_why(condarc: Path) -> None:
    found = channels(("defaults", "bioconda", "anaconda"), channel_settings())
    assert found.addresses == ("conda-forge", "bioconda")
    assert "defaults, anaconda: read as conda-forge" in found.notes[0] and "licence" in found.notes[0]


def test_a_team_with_a_mirror_says_where_it_is(condarc: Path) -> None:
    own = settings_of(
        condarc, "channel_alias: https://mirror.lab/conda/\ncustom_channels:\n  main: https://mirror.lab/pkgs\n"
    )
    found = channels(("conda-forge", "main", "https://other.lab/c/"), own)
    assert found.addresses == (
        "https://mirror.lab/conda/conda-forge",
        "https://mirror.lab/pkgs/main",
        "https://other.lab/c",
    )
    assert found.notes == ()


def test_default_channels_and_channels_of_the_file_are_used(condarc: Path) -> None:
    own = settings_of(condarc, "channels:\n  - lab\n  - defaults\ndefault_channels:\n  - https://mirror.lab/main\n")
    assert channels((), own).addresses == ("lab", "https://mirror.lab/main")
    assert channels(("conda-forge", "nodefaults"), own).addresses == ("conda-forge",)


def test_variables_win_over_the_file(condarc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_CHANNEL_ALIAS", "https://variable.lab")
    monkeypatch.setenv("CONDA_SSL_VERIFY", "false")
    own = settings_of(condarc, "channel_alias: https://file.lab\n")
    assert channels(("c",), own).addresses == ("https://variable.lab/c",)
    assert not own.verify


def test_a_changed_file_is_read_anew(condarc: Path) -> None:
    assert settings_of(condarc, "channel_alias: https://one.lab\n").alias == "https://one.lab"
    assert settings_of(condarc, "channel_alias: https://another.lab\n").alias == "https://another.lab"


@pytest.mark.parametrize("alias", ["https://me:s3cr3t@mirror.lab/conda", "https://mirror.lab/t/s3cr3t/conda"])
def test_credentials_of_the_file_are_used_and_never_shown(condarc: Path, alias: str) -> None:
    own = settings_of(condarc, f"channel_alias: {alias}\n")
    found = channels(("lab",), own)
    assert found.addresses == ("https://mirror.lab/conda/lab",)
    assert "s3cr3t" in str(own.logins["mirror.lab"])
    assert "s3cr3t" not in own.mask(f"cannot reach {alias}/lab")


@pytest.mark.parametrize("channel", ["https://me:s3cr3t@lab/c", "https://lab/t/s3cr3t/c", "https://s3cr3t@lab/c"])
def test_credentials_in_a_request_are_refused_and_not_repeated(condarc: Path, channel: str) -> None:
    with pytest.raises(EnvironmentFailed, match=r"(?s)credentials.*condarc") as caught:
        channels((channel,), channel_settings())
    assert "s3cr3t" not in caught.value.message


@pytest.mark.parametrize("channel", ["local", "./here", "two words", "ftp://lab/c", "http://"])
def test_what_the_server_cannot_find_is_refused(condarc: Path, channel: str) -> None:
    with pytest.raises(EnvironmentFailed, match=r"cannot find|absolute path"):
        channels((channel,), channel_settings())


def test_an_unreadable_file_is_named(condarc: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"\.condarc cannot be read"):
        settings_of(condarc, "channels: [a\n")
