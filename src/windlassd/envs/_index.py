"""The user's index settings for uv: its own variables as they are, and pip's options put into its terms."""

from __future__ import annotations

import configparser
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from windlass import settings
from windlassd.envs.base import EnvironmentFailed

# What belongs to this process's own environment, or would send uv elsewhere than where a builder tells it to.
_DROPPED = (
    "PYTHON", "VIRTUAL_ENV", "CONDA_", "__PYVENV",
    "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_PROJECT", "UV_WORKING_DIR", "UV_VENV_",
    "UV_COMPILE_BYTECODE", "UV_REQUIRE_HASHES", "UV_NO_VERIFY_HASHES",
)  # fmt: skip
_SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|_KEY\Z|USERNAME|HEADER")
_USERINFO = re.compile(r"(?<=://)([^/\s@'\"]+)@")
_NO_EFFECT = ("UV_CACHE_DIR", "UV_CONCURRENT_", "UV_HTTP_", "UV_LINK_MODE", "UV_LOCK_TIMEOUT", "UV_REQUEST_TIMEOUT")
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class IndexSettings:
    """How uv is to be started so that it sees the indexes that pip would see."""

    environment: Mapping[str, str]
    """uv's whole environment."""
    options: tuple[str, ...]
    """For what uv has no variable for."""
    public: Mapping[str, str]
    """What decides which versions are found, without credentials."""
    secrets: tuple[str, ...]
    """Credentials among them, to be masked wherever text goes to people or files."""

    def mask(self, text: str) -> str:
        """``text`` without credentials."""
        for secret in self.secrets:
            text = text.replace(secret, "****")
        return _USERINFO.sub("****@", text)


def index_settings() -> IndexSettings:
    """The settings in force now.

    Raises:
        EnvironmentFailed: a pip.conf cannot be read.
    """
    whole = settings.child_environment()
    env = {name: value for name, value in whole.items() if not name.startswith(_DROPPED)}
    pip = _pip_options(whole)
    env.update(_translated(pip, env))
    env.update({"UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "UV_NO_PROGRESS": "1"})
    env.setdefault("HOME", os.path.expanduser("~"))
    options = ("--no-index",) if pip.get("no-index", "").lower() in _TRUE else ()
    shown = {name: value for name, value in env.items() if name.startswith("UV_") and not name.startswith(_NO_EFFECT)}
    public = {name: _USERINFO.sub("", value) for name, value in shown.items() if not _SECRET_NAME.search(name)}
    public["options"] = " ".join(options)
    public["files"] = " ".join(_states(_uv_files(env)))
    return IndexSettings(env, options, dict(sorted(public.items())), tuple(_secrets(env)))


def _translated(pip: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """uv's variables for pip's options; what is set for uv already stays."""
    found: dict[str, str] = {}

    def put(option: str, variable: str, separator: str = " ", also: tuple[str, ...] = ()) -> None:
        value = separator.join(pip.get(option, "").split())
        if value and not any(name in env for name in (variable, *also)):
            found[variable] = value

    put("index-url", "UV_DEFAULT_INDEX", also=("UV_INDEX_URL",))
    put("extra-index-url", "UV_INDEX", also=("UV_EXTRA_INDEX_URL",))
    put("find-links", "UV_FIND_LINKS", ",")
    put("cert", "SSL_CERT_FILE")
    put("trusted-host", "UV_INSECURE_HOST")
    put("constraint", "UV_CONSTRAINT")
    put("timeout", "UV_HTTP_TIMEOUT", also=("UV_REQUEST_TIMEOUT",))
    put("default-timeout", "UV_HTTP_TIMEOUT", also=("UV_REQUEST_TIMEOUT",))
    if "UV_INDEX" in found and "UV_INDEX_STRATEGY" not in env:
        # pip takes the best version of all its indexes; uv alone would stop at the first index that knows the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if pip.get("pre", "").lower() in _TRUE and "UV_PRERELEASE" not in env:
        found["UV_PRERELEASE"] = "allow"
    return found


def _pip_options(env: Mapping[str, str]) -> dict[str, str]:
    """pip's options by long name: files first (global, user, this venv's), then ``PIP_*`` variables."""
    options: dict[str, str] = {}
    chosen = env.get("PIP_CONFIG_FILE")
    for path in () if chosen == os.devnull else (*_pip_files(env), *([chosen] if chosen else [])):
        try:
            state = os.stat(path)
        except OSError:
            continue
        options.update(_read_pip_file(path, state.st_mtime_ns, state.st_size))
    for name, value in env.items():
        if name.startswith("PIP_"):
            options[name[4:].lower().replace("_", "-")] = value
    return options


def _pip_files(env: Mapping[str, str]) -> Iterator[str]:
    user = os.path.expanduser("~")
    yield "/etc/xdg/pip/pip.conf"
    yield "/etc/pip.conf"
    yield os.path.join(user, ".pip", "pip.conf")
    yield os.path.join(env.get("XDG_CONFIG_HOME") or os.path.join(user, ".config"), "pip", "pip.conf")
    yield os.path.join(sys.prefix, "pip.conf")


@functools.lru_cache(maxsize=16)
def _read_pip_file(path: str, mtime_ns: int, size: int) -> Mapping[str, str]:
    parser = configparser.RawConfigParser()
    try:
        with open(path, encoding="utf-8") as f:
            parser.read_file(f)
    except (OSError, UnicodeDecodeError, configparser.Error) as e:
        raise EnvironmentFailed(
            f"pip's settings file {path} cannot be read ({type(e).__name__}).", "Mend or remove it."
        ) from e
    return {
        name.replace("_", "-"): value
        for section in ("global", "install")
        if parser.has_section(section)
        for name, value in parser.items(section)
    }


def _uv_files(env: Mapping[str, str]) -> Iterator[str]:
    """Files that uv reads by itself; a change to one must make a new request."""
    config = env.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    yield from (env.get("UV_CONFIG_FILE", ""), os.path.join(config, "uv", "uv.toml"), "/etc/uv/uv.toml")
    for name in ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE"):
        yield from env.get(name, "").split()


def _states(paths: Iterator[str]) -> Iterator[str]:
    for path in paths:
        try:
            state = os.stat(path)
        except OSError:
            continue
        yield f"{path}:{state.st_mtime_ns}:{state.st_size}"


def _secrets(env: Mapping[str, str]) -> Iterator[str]:
    found: set[str] = set()
    for name, value in env.items():
        if name.startswith("UV_") and _SECRET_NAME.search(name) and "USERNAME" not in name:
            found.add(value)
        if name.startswith(("UV_", "PIP_")):
            for userinfo in _USERINFO.findall(value):
                secret = userinfo.partition(":")[2] or userinfo
                found |= {secret, unquote(secret)}
    # Longest first, so that a secret that contains another goes as a whole; very short ones would mask half the text.
    yield from sorted((secret for secret in found if len(secret) > 3), key=lambda text: (-len(text), text))
