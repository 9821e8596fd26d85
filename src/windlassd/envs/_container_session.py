"""A container of an image in which uv works for a while: made, used, committed or not, and always removed.

What uv needs from outside (its cache, certificates, folders of wheels, what it is to install) is mounted below
``/dev``, which is no part of an image, so that a commit holds the environment and nothing else. Credentials go with
each program as its variables and are no part of the container's configuration, hence of no image.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import glob
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from windlassd.envs import _container_tools, _uv_errors
from windlassd.envs._container_api import FREE_SPACE, FULL, Api, Done, EngineRefused
from windlassd.envs._flock import is_held
from windlassd.envs._index import IndexSettings
from windlassd.envs._process import MemoryFile, Output
from windlassd.envs._uv import answer, told
from windlassd.envs.base import EnvironmentFailed, Log, Work
from windlassd.envs.container_engine import EngineUnavailable

LABEL = "windlass.build"
"""Of build containers: the folder that their server holds locked while it lives."""
AT = "/dev/windlass"
_HOST = f"{AT}/host"
"""Paths of this machine are seen under here, as they are."""
_WORK = f"{AT}/work"
_CACHE = f"{AT}/cache"
_PASSED = ("UV_", "SSL_CERT_", "SSL_CLIENT_CERT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy",
           "https_proxy", "all_proxy", "no_proxy", "SOURCE_DATE_EPOCH")  # fmt: skip
_OWN_CACHE = ("UV_CACHE_DIR", "UV_NO_CACHE", "UV_LINK_MODE", "UV_PYTHON_DOWNLOADS", "UV_PYTHON_INSTALL_DIR", "UV_TOOL_")
# Of the image's own variables, those that would lead uv, or the interpreters it asks, astray.
_DROPPED = ("UV_", "PIP_", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
_PLACES = re.compile(r"(?<![\w./-])(?:file://)?(/(?!/)[^\s,:'\"=;]+)")
_KILLED = 128
_NICE = 10
_UNUSED_S = 30 * 86400.0


class Session:
    """The container, from ``opened``. Belongs to the thread that opened it."""

    def __init__(
        self, api: Api, container: str, folder: str, places: Sequence[str], user: str, image_env: Sequence[str]
    ) -> None:
        self.api = api
        self.container = container
        self.user = user
        self._folder = folder
        self._seen_places = places
        self._unset = [name for name in (text.partition("=")[0] for text in image_env) if name.startswith(_DROPPED)]
        self._count = 0

    def sh(self, script: str, env: Mapping[str, str] | None = None, *, root: bool = False) -> Done:
        """Run a script in the container, in a shell of this machine, with these variables as well."""
        argv = _container_tools.command("sh", "-c", script)
        given = {**self._places(), **(env or {})}
        return self.api.run(self.container, argv, user="0:0" if root else self.user, env=given)

    def program(self, *argv: str) -> Done:
        """Run a program of the image."""
        return self.api.run(self.container, self._clean(list(argv)), user=self.user, env=self._places())

    def uv(
        self,
        args: Sequence[str],
        index: IndexSettings,
        work: Work,
        *,
        asked: Sequence[str],
        python_version: str,
        files: Sequence[MemoryFile] = (),
        quiet: bool = False,
    ) -> str:
        """As ``run_uv``, in the container. ``work`` is the session's."""

        def start(words: Sequence[str], index: IndexSettings, files: Sequence[MemoryFile], *, aloud: bool) -> Output:
            tell = functools.partial(told, index, work)
            return self._uv(words, index, files, (lambda line: tell(self._outside(line))) if aloud else None)

        return answer(start, args, index, work, asked=asked, python_version=python_version, files=files, quiet=quiet)

    def room(self, name: str) -> str:
        """A new empty folder of this machine that ``take_in`` can take from."""
        path = os.path.join(self._folder, "work", name)
        os.mkdir(path, mode=0o755)
        return path

    def take_in(self, name: str, target: str) -> None:
        """Copy the files of a ``room`` to where there is nothing yet in the container.

        Raises:
            EnvironmentFailed: they do not fit there.
        """
        words = _container_tools.command("cp", "-dR", "--preserve=mode,timestamps,links", f"{_WORK}/{name}", target)
        done = self.api.run(self.container, _lowered(*words), user=self.user, env=self._places())
        if done.code != 0:
            full = FULL.search(done.err) is not None
            said = f"Files cannot be put into the image at {target}: {self._outside(done.err).strip()[-300:]}"
            raise EnvironmentFailed(said, FREE_SPACE if full else "Submit again, or try another image.", transient=full)

    def commit(self, changes: Sequence[str]) -> str:
        """Make an image without a name of the container's files; returns its id."""
        made = self.api.call("POST", "/commit", {}, container=self.container, changes=list(changes), pause="true")
        return str(made["Id"])

    def _uv(
        self, args: Sequence[str], index: IndexSettings, files: Sequence[MemoryFile], on_line: Log | None
    ) -> Output:
        words = [self._seen(word) for word in args]
        for file in files:
            inside = self._written(file)
            words = [inside if word == file.path else word for word in words]
        argv = self._clean(_lowered(*_container_tools.command("uv", *words)))
        env = {**self._variables(index), **self._places()}
        done = self.api.run(self.container, argv, user=self.user, env=env, on_line=on_line)
        if done.code > _KILLED:
            raise _uv_errors.killed(done.code - _KILLED)
        return Output(done.code, self._outside(done.out), self._outside(done.err))

    def _clean(self, argv: list[str]) -> list[str]:
        """``argv`` without the image's variables that mean harm."""
        if not self._unset:
            return argv
        script = f'unset {" ".join(self._unset)}; exec "$@"'
        return _container_tools.command("sh", "-c", script, "sh", *argv)

    def _places(self) -> Mapping[str, str]:
        return {"HOME": f"{_WORK}/home", "TMPDIR": f"{_WORK}/tmp"}

    def _variables(self, index: IndexSettings) -> Mapping[str, str]:
        env = index.environment
        passed = {
            name: self._seen(value)
            for name, value in env.items()
            if name.startswith(_PASSED) and not name.startswith(_OWN_CACHE)
        }
        own = {
            "UV_CACHE_DIR": _CACHE, "UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1",
            "UV_NO_PROGRESS": "1", "XDG_CONFIG_HOME": f"{_HOST}{_config(env)}", "XDG_CONFIG_DIRS": f"{_HOST}/etc",
            "NETRC": f"{_HOST}{_netrc(env)}",
        }  # fmt: skip
        return {**passed, **own}

    def _seen(self, text: str) -> str:
        """``text`` with the paths of this machine that are mounted as the container sees them."""

        def inside(match: re.Match[str]) -> str:
            path = match.group(1)
            mounted = any(path == place or path.startswith(f"{place}/") for place in self._seen_places)
            return match.group().replace(path, _HOST + path, 1) if mounted else match.group()

        return _PLACES.sub(inside, text)

    def _outside(self, text: str) -> str:
        text = re.sub(rf"`?{_WORK}/files/\d+`?", "the package list", text)
        return text.replace(_HOST, "")

    def _written(self, file: MemoryFile) -> str:
        """Path in the container of a copy of the file, with its paths as they are seen there."""
        self._count += 1
        content = os.pread(file.fd, os.fstat(file.fd).st_size, 0).decode()
        path = os.path.join(self._folder, "work", "files", str(self._count))
        with open(path, "w", encoding="utf-8") as f:
            f.write(self._seen(content))
        return f"{_WORK}/files/{self._count}"


@contextlib.contextmanager
def opened(api: Api, image: Mapping[str, Any], root: str, index: IndexSettings, *wanted: str) -> Iterator[Session]:
    """A session in a container of ``image`` (what the engine says of it); the container is gone afterwards.

    Args:
        api: The engine, with the work that it is for.
        image: Its description.
        root: ``<WINDLASS_HOME>/containers``.
        index: The settings in force, whose files and folders are mounted.
        wanted: Requirements and options that may name files of this machine.
    """
    with contextlib.suppress(EnvironmentFailed):  # what does not go now is tried again
        sweep(root, api.engine)
    folder = os.path.join(root, secrets.token_hex(16))
    fd = _locked_folder(folder)
    removed = True
    try:
        places = _places_named(index, wanted)
        user, remapped = _user(api)
        binds = [*_cache(root, image, index), *map(_bind, places)]
        removed = False
        container = _created(api, image, root, folder, binds, remapped)
        try:
            _start(api, image, container)
            yield Session(api, container, folder, places, user, (image.get("Config") or {}).get("Env") or ())
        finally:
            removed = _removed(api, container)
    finally:
        if removed:  # else a sweep does it, by what the folder is called
            shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def abandoned(root: str) -> Sequence[str]:
    """Folders of builds whose server was killed."""
    return [path for path in _folders(root) if os.path.isdir(path) and not is_held(path)]


def sweep(root: str, engine: str) -> None:
    """Remove the containers, and the folders, of builds whose server was killed; those without a folder as well.

    Raises:
        EnvironmentFailed: the engine does not answer.
    """
    dead = set(abandoned(root))
    api = Api(engine, Work(lambda line: None, timeout_s=60))
    asked = json.dumps({"label": [LABEL]})
    for found in api.call("GET", "/containers/json", all="1", filters=asked):
        folder = found["Labels"].get(LABEL) or ""
        # The folder is there before its container, so one without has outlived it; other homes have other folders.
        is_lost = os.path.dirname(folder) == root and not os.path.isdir(folder)
        if (folder in dead or is_lost) and not _removed(api, found["Id"]):
            dead.discard(folder)
    for path in dead:
        shutil.rmtree(path, ignore_errors=True)


def forget_unused(root: str) -> None:
    """Delete tools, and what was built for images, that nobody has used for long."""
    places = [*glob.glob(os.path.join(glob.escape(root), "caches", "*")), *_container_tools.folders(root)]
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(place).st_mtime > _UNUSED_S:
                shutil.rmtree(place, ignore_errors=True)


def remove_container(api: Api, container: str) -> None:
    """End the container and take it away; one that is gone already is fine."""
    try:
        api.call("DELETE", f"/containers/{container}", force="true", v="true")
    except EngineRefused as e:
        if e.status not in (404, 409):  # 409: it is being removed
            raise


def _locked_folder(path: str) -> int:
    """Make the folder of a session, locked before a sweep can see it; returns its descriptor."""
    new = f"{path}.new"
    for name in ("home", "tmp", "files"):
        os.makedirs(os.path.join(new, "work", name), mode=0o700)
    fd = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.rename(new, path)
    return fd


def _created(api: Api, image: Mapping[str, Any], root: str, folder: str, binds: Sequence[str], remapped: bool) -> str:
    tools = _container_tools.folder(root)
    host: dict[str, object] = {
        "Binds": [f"{tools}:{_container_tools.AT}:ro", f"{folder}/work:{_WORK}", *binds], "NetworkMode": "host",
    }  # fmt: skip
    if remapped:
        host["UsernsMode"] = "host"
    if os.path.exists("/sys/fs/selinux/enforce"):
        host["SecurityOpt"] = ["label=disable"]
    # It ends itself some time after its server was killed, if no other server sweeps it away before.
    words = _container_tools.command("sleep", str(int(api.work.timeout_s) + 60))
    # An entrypoint cannot be taken out of an image again, so there is one only where the image has its own to put back.
    has_own = bool((image.get("Config") or {}).get("Entrypoint"))
    asked = {
        "Image": str(image["Id"]), "User": "0:0", "WorkingDir": "/", "Labels": {LABEL: folder}, "HostConfig": host,
        **({"Entrypoint": words, "Cmd": []} if has_own else {"Cmd": words}),
    }  # fmt: skip
    name = f"windlass-build-{os.path.basename(folder)[:12]}"
    try:
        return str(api.call("POST", "/containers/create", asked, name=name)["Id"])
    except EngineRefused as e:
        raise _unstartable(e, image) from e


def _start(api: Api, image: Mapping[str, Any], container: str) -> None:
    try:
        api.call("POST", f"/containers/{container}/start")
    except EngineRefused as e:
        raise _unstartable(e, image) from e


def _lowered(*words: str) -> list[str]:
    return _container_tools.command("nice", "-n", str(_NICE), *words)


def _bind(place: str) -> str:
    return f"{place}:{_HOST}{place}:ro"


def _removed(api: Api, container: str) -> bool:
    """Remove the container, also when the work was given up; False when the engine does not do it."""
    try:
        remove_container(Api(api.engine, Work(api.work.log)), container)
    except EngineUnavailable:
        api.work.log("The build container is removed when the container engine is back.")
        return False
    except EngineRefused as e:
        api.work.log(f"The build container is removed later. {e.message}")
        return False
    return True


def _unstartable(cause: EngineRefused, image: Mapping[str, Any]) -> EnvironmentFailed:
    name, said = ((image.get("RepoTags") or ()) or [str(image["Id"])])[0], cause.said.rstrip(". ")
    if "bind source path does not exist" in cause.said or "no such file or directory" in cause.said:
        return EnvironmentFailed(f"A container of {name} does not start: {said}.",
                                 "The engine must see the folders of this machine: one in a virtual machine or in "
                                 "another container has to share them.")  # fmt: skip
    return EnvironmentFailed(f"A container of {name} does not start: {said}.", "Try it with `docker run`.")


def _cache(root: str, image: Mapping[str, Any], index: IndexSettings) -> Iterator[str]:
    """Mounts of uv's cache; what is built in an image stays apart, as it fits nowhere else."""
    env = index.environment
    user = env.get("HOME") or os.path.expanduser("~")
    shared = env.get("UV_CACHE_DIR") or os.path.join(env.get("XDG_CACHE_HOME") or os.path.join(user, ".cache"), "uv")
    own = os.path.join(root, "caches", str(image["Id"]).removeprefix("sha256:")[:16])
    os.makedirs(shared, exist_ok=True)
    os.makedirs(own, exist_ok=True)
    os.utime(own)
    yield f"{os.path.abspath(shared)}:{_CACHE}"
    for bucket in _container_tools.private_buckets():
        os.makedirs(os.path.join(own, bucket), exist_ok=True)
        os.makedirs(os.path.join(shared, bucket), exist_ok=True)  # else the engine makes it, as root
        yield f"{own}/{bucket}:{_CACHE}/{bucket}"


def _places_named(index: IndexSettings, wanted: Sequence[str]) -> list[str]:
    """Files and folders of this machine that uv's settings and the packages name, each once, none within another."""
    env = index.environment
    named = [value for name, value in env.items() if name.startswith(_PASSED) and not name.startswith(_OWN_CACHE)]
    found = [_place(match) for text in (*named, *wanted) for match in _PLACES.finditer(text)]
    found += [os.path.join(_config(env), "uv"), "/etc/uv", _netrc(env)]
    found += [os.path.realpath(path) for path in list(found)]  # what a link leads to is seen under its own name too
    real = sorted({os.path.normpath(path) for path in found if len(path) > 1 and os.path.exists(path)})
    return [path for path in real if not any(path.startswith(f"{other}/") for other in real)]


def _place(match: re.Match[str]) -> str:
    path = unquote(match.group(1)).rstrip("/")
    # The pages of an index that is a folder lead to files beside it.
    is_index = match.group().startswith("file:") and os.path.isdir(path) and os.path.dirname(path) != "/"
    return os.path.dirname(path) if is_index else path


def _config(env: Mapping[str, str]) -> str:
    return env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")


def _netrc(env: Mapping[str, str]) -> str:
    return env.get("NETRC") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".netrc")


def _user(api: Api) -> tuple[str, bool]:
    """Who programs run as in the container, so that what they write is ours outside; whether users are remapped."""
    security = [str(option) for option in api.call("GET", "/info").get("SecurityOptions") or ()]
    rootless = any("rootless" in option for option in security)
    return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}", any("userns" in option for option in security)


def _folders(root: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return
    yield from (os.path.join(root, name) for name in names if re.fullmatch(r"[0-9a-f]{32}", name))
