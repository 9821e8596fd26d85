"""The user's index settings for uv: its own variables as they are, and pip's options put into its terms."""

from __future__ import annotations

import configparser
import functools
import netrc
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
_CHOOSING = ("UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE")
_TRUE = ("1", "true", "yes", "on")
_MOST_INSTALLS = 8


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

    def for_a_lock(self) -> IndexSettings:
        """The same without what has its say when versions are chosen, and which uv refuses beside pinned ones."""
        left = {name: value for name, value in self.environment.items() if name not in _CHOOSING}
        return replace(self, environment=left)

    def has_login(self, host: str) -> bool:
        """Whether credentials are set for ``host``, such as ``127.0.0.1:8080``."""
        if any(re.search(rf"://[^/\s@]+@{re.escape(host)}(?=[/\s,]|\Z)", value) for value in self.environment.values()):
            return True
        try:
            login = netrc.netrc(self.environment.get("NETRC")).authenticators(host.partition(":")[0])
        except (OSError, netrc.NetrcParseError):
            return False  # none there, or one that uv cannot read either
        return login is not None


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
    cores = os.cpu_count() or 1
    # A compiler on every core would leave jobs no memory; many writers at once do not make one disk faster.
    env.setdefault("UV_CONCURRENT_BUILDS", str(max(1, cores // 2)))
    env.setdefault("UV_CONCURRENT_INSTALLS", str(min(cores, _MOST_INSTALLS)))
    options = tuple(_options(pip))
    shown = {name: value for name, value in env.items() if name.startswith("UV_") and not name.startswith(_NO_EFFECT)}
    public = {name: _USERINFO.sub("", value) for name, value in shown.items() if not _SECRET_NAME.search(name)}
    public["options"] = " ".join(options)
    public["files"] = " ".join(_states(uv_files(env)))
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
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # pip looks there next, uv does not
        if env.get(variable) and not any(name in {**env, **found} for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")):
            found["SSL_CERT_FILE"] = env[variable]
    put("client-cert", "SSL_CLIENT_CERT")
    for variable in ("HTTPS_PROXY", "HTTP_PROXY"):
        put("proxy", variable, also=(variable.lower(), "ALL_PROXY", "all_proxy"))
    put("retries", "UV_HTTP_RETRIES")
    put("trusted-host", "UV_INSECURE_HOST")
    put("constraint", "UV_CONSTRAINT")
    put("build-constraint", "UV_BUILD_CONSTRAINT")
    put("uploaded-prior-to", "UV_EXCLUDE_NEWER")
    put("timeout", "UV_HTTP_TIMEOUT", also=("UV_REQUEST_TIMEOUT",))
    put("default-timeout", "UV_HTTP_TIMEOUT", also=("UV_REQUEST_TIMEOUT",))
    if "UV_INDEX" in found and "UV_INDEX_STRATEGY" not in env:
        # pip takes the best version of all its indexes; uv alone would stop at the first index that knows the name.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if pip.get("pre", "").lower() in _TRUE and "UV_PRERELEASE" not in env:
        found["UV_PRERELEASE"] = "allow"
    if pip.get("keyring-provider") == "subprocess" and "UV_KEYRING_PROVIDER" not in env:
        found["UV_KEYRING_PROVIDER"] = "subprocess"
    if "truststore" in pip.get("use-feature", "").split() and "UV_NATIVE_TLS" not in env:
        found.setdefault("UV_SYSTEM_CERTS", "1")
    return found


def _options(pip: Mapping[str, str]) -> Iterator[str]:
    if pip.get("no-index", "").lower() in _TRUE:
        yield "--no-index"
    for name in re.split(r"[\s,]+", pip.get("no-binary", "")):
        if name and not name.startswith(":"):
            yield from ("--no-binary", name)


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


def uv_files(env: Mapping[str, str]) -> Iterator[str]:
    """Paths of files that uv reads by itself, whether they are there or not; a change to one makes a new request."""
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
        if name.startswith(("UV_", "PIP_")) or name.lower().endswith("_proxy"):
            for userinfo in _USERINFO.findall(value):
                secret = userinfo.partition(":")[2] or userinfo
                found |= {secret, unquote(secret)}
    # Longest first, so that a secret that contains another goes as a whole; very short ones would mask half the text.
    yield from sorted((secret for secret in found if len(secret) > 3), key=lambda text: (-len(text), text))
