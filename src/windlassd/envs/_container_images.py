"""Images of an engine: found by name, pulled, built from a Dockerfile, pushed, removed; failures in our words."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import quote

from windlass.errors import did_you_mean
from windlassd.envs._container_api import FREE_SPACE, FULL, Api, EngineRefused
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.registry_logins import RegistryLogins

_UNREACHABLE = re.compile(
    r"dial tcp|connection refused|no such host|i/o timeout|pinging container registry|x509|tls: |HTTP response to HTTPS"
    r"|server misbehaving|network is unreachable|deadline exceeded|Client\.Timeout|\bEOF\b|\b50[0234] \w|toomanyreq",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"unauthorized|authentication required|no basic auth|denied|incorrect username|forbidden", re.I)
_PLAIN = re.compile(r"HTTP response to HTTPS|x509|tls: ", re.IGNORECASE)
_ABSENT = re.compile(r"manifest unknown|not found|does not exist|name unknown|no such image", re.IGNORECASE)
_ARCHITECTURE = re.compile(r"no matching manifest|exec format error|does not match the specified platform", re.I)
_TOLD = ("Pulling from", "Pull complete", "Digest:", "Status:", "Pushed", "Layer already exists", "Trying to pull",
         "Copying blob", "Writing manifest", "Mounted from")  # fmt: skip
_MOST_LINES = 12
_OF_THE_ENGINE = re.compile(r" ---> |Removing intermediate container ")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BUILDKIT = re.compile(r"requires BuildKit|unknown instruction", re.IGNORECASE)
_MEND = "Mend it and submit again."
_WITHOUT_BUILDKIT = (
    "The engine's API builds it without BuildKit, hence without here-documents and, by Docker, `RUN --mount`. "
    "Write it without them, or build the image yourself (`docker build --tag NAME .`) and name that."
)
_CHUNK = 1 << 20
_DOCKERFILE = "Dockerfile.windlass"


@dataclass(frozen=True)
class Name:
    """An image by name."""

    repository: str
    """With its registry, if it has one."""
    tag: str
    """Or ``sha256:…``, a digest."""

    @classmethod
    def read(cls, text: str, registry: str | None = None) -> Name:
        """The name as users write it; ``registry`` goes before it unless it is there already.

        Raises:
            EnvironmentFailed: it is no name of an image.
        """
        host = re.sub(r"\Ahttps?://", "", (registry or "").strip()).rstrip("/")
        whole = text.strip() if not host or text.startswith(f"{host}/") else f"{host}/{text.strip()}"
        if not re.match(r"[A-Za-z0-9][\w./:@-]*\Z", whole):
            raise EnvironmentFailed(f"{whole!r} is no name of an image.", "Write it like 'microsoft/mmlspark:0.12'.")
        repository, at, digest = whole.partition("@")
        if at:
            return cls(repository, digest)
        head, colon, tag = repository.rpartition(":")
        return cls(head, tag) if colon and "/" not in tag else cls(repository, "latest")

    @property
    def registry(self) -> str:
        """Host of its registry; Docker's own when the name has none."""
        first, slash, _ = self.repository.partition("/")
        return first if slash and (set(first) & set(".:") or first == "localhost") else "docker.io"

    def __str__(self) -> str:
        return f"{self.repository}{'@' if ':' in self.tag else ':'}{self.tag}"


def inspect(api: Api, image: str) -> Mapping[str, Any] | None:
    """What the engine says of an image, by name or id; None when it has none such."""
    found: Mapping[str, Any] | None = api.find(f"/images/{quote(image)}/json")
    return found


def image_id(facts: Mapping[str, Any]) -> str:
    """``sha256:…``, which Podman leaves out at times."""
    known = str(facts["Id"])
    return known if known.startswith("sha256:") else f"sha256:{known}"


def own_layers_bytes(api: Api, image: str) -> int:
    """Bytes that the image has beyond the one it was made from."""
    history = api.call("GET", f"/images/{quote(image)}/history")
    return int(history[0]["Size"]) if history else 0


def pull(api: Api, name: Name, logins: RegistryLogins, username: str | None = None) -> Mapping[str, Any]:
    """Fetch an image, its progress in the log; returns what the engine says of it.

    Raises:
        EnvironmentFailed: it cannot be had; says from where, and why.
    """
    auth = logins.header(name.registry, username)
    api.work.log(f"Pulling {name}.")
    try:
        _follow(api, "/images/create", auth, fromImage=name.repository, tag=name.tag)
    except EngineRefused as e:
        raise pull_failure(api, name, logins.mask(e.said), auth is not None) from e
    found = inspect(api, str(name))
    if found is None:
        raise EnvironmentFailed(f"The container engine has pulled {name}, and does not find it.", "Submit again.")
    return found


def push(api: Api, image: str, name: Name, logins: RegistryLogins) -> None:
    """Tag the image with ``name`` and send it to its registry.

    Raises:
        EngineRefused: the registry does not take it.
    """
    tag(api, image, name)
    _follow(api, f"/images/{quote(name.repository)}/push", logins.header(name.registry) or "e30=", tag=name.tag)


def tag(api: Api, image: str, name: Name) -> None:
    """Give the image a name; another image that had it loses it."""
    api.call("POST", f"/images/{quote(image)}/tag", repo=name.repository, tag=name.tag)


def build(
    api: Api, dockerfile: str, context: str | None, logins: RegistryLogins, name_for: Callable[[str], str]
) -> tuple[str, Mapping[str, Any]]:
    """Make the image of a Dockerfile, its steps in the log; returns its name and what the engine says of it.

    Args:
        api: The engine.
        dockerfile: Its text.
        context: Folder of the files that it copies.
        logins: For the registries that it takes images from.
        name_for: Makes a name out of a hash of all that.

    Raises:
        EnvironmentFailed: a step fails; holds the step and its last lines.
    """
    # A refresh takes newer images than those that are here, where there are any to be had.
    ways: list[dict[str, object]] = [{"pull": 1, "nocache": 1}, {"nocache": 1}] if api.work.anew else [{}]
    with tempfile.TemporaryFile() as packed:
        # Images without a name are what clean-ups remove first.
        name = name_for(_pack(packed, dockerfile, context))
        headers = {"Content-Type": "application/x-tar", "X-Registry-Config": logins.config_header()}
        asked = {"dockerfile": _DOCKERFILE, "t": name, "rm": 1, "forcerm": 1, "networkmode": "host"}
        for way in ways:
            lines: list[str] = []
            packed.seek(0)
            try:
                for message in api.messages("/build", iter(partial(packed.read, _CHUNK), b""), headers, **asked, **way):
                    for line in _lines(logins.mask(str(message.get("stream") or ""))):
                        lines.append(line)
                        api.work.log(line)
                break
            except EngineRefused as e:
                away = any(kind.search(e.said) for kind in (_UNREACHABLE, _REFUSED, _ABSENT))
                if way is ways[-1] or not away:
                    raise _build_failure(logins.mask(e.said), lines) from e
                api.work.log(
                    f"No newer image can be pulled ({logins.mask(e.said)}), so the one on this machine is used."
                )
    found = inspect(api, name)
    if found is None:
        raise EnvironmentFailed("The Dockerfile was built, and its image is not there.", "Submit again.")
    return name, found


def remove(api: Api, image: str) -> None:
    """Take the image away with all its names, if it is there.

    Raises:
        EngineRefused: a container uses it.
    """
    found = inspect(api, image)
    for name in (found or {}).get("RepoTags") or [image] if found else []:
        api.call("DELETE", f"/images/{quote(name)}")


def pull_failure(api: Api, name: Name, said: str, login: bool) -> EnvironmentFailed:
    """Why ``name`` cannot be pulled, from what the engine said; ``login``: whether it had one for the registry."""
    quoted = f" The engine says: {said.rstrip('. ')}."
    if FULL.search(said):
        return EnvironmentFailed(
            f"The disk of the container engine is full: {name} cannot be pulled.{quoted}", FREE_SPACE, transient=True
        )
    if _ARCHITECTURE.search(said):
        return EnvironmentFailed(f"The image {name} is not made for this machine ({os.uname().machine}).{quoted}",
                                 "Ask for one that is.")  # fmt: skip
    if _UNREACHABLE.search(said):
        plain = (
            " A registry without TLS has to be among the engine's insecure registries." if _PLAIN.search(said) else ""
        )
        step = f"Check its address and the network, then submit again.{plain}"
        text = f"The image {name} is not on this machine, and the registry {name.registry} cannot be reached."
        return EnvironmentFailed(f"{text}{_near(api, name)}{quoted}", step, transient=True)
    if _REFUSED.search(said) and not (_ABSENT.search(said) and login):
        how = "does not take the login for" if login else "refuses access to"
        return EnvironmentFailed(
            f"The registry {name.registry} {how} {name}, or has no such image.{quoted}{_near(api, name)}",
            f"Check the name; a login comes from image_registry_details or `docker login {name.registry}`.",
        )
    if _ABSENT.search(said):
        return EnvironmentFailed(f"There is no image {name} at {name.registry}, nor on this machine.{_near(api, name)}",
                                 "Check its name and tag.")  # fmt: skip
    return EnvironmentFailed(f"The image {name} cannot be pulled from {name.registry}.{quoted}", "Submit again.")


def push_failure(name: Name, said: str) -> EnvironmentFailed:
    """Why ``name`` cannot be pushed, from what the engine said."""
    if _UNREACHABLE.search(said):
        why = "cannot be reached"
    else:
        why = "refuses it" if _REFUSED.search(said) else "does not take it"
    return EnvironmentFailed(
        f"{name} cannot be pushed: the registry {name.registry} {why} (see container_registry, and `docker login`). "
        f"The engine says: {said.rstrip('. ')}."
    )


def _near(api: Api, name: Name) -> str:
    known = [tag for image in api.call("GET", "/images/json") for tag in image.get("RepoTags") or []]
    ours = [tag for tag in known if "windlass/" not in tag and not tag.startswith("<none>")]
    short = dict.fromkeys(tag.removeprefix(f"{name.registry}/") for tag in ours)
    same = sorted(tag for tag in short if tag.rpartition(":")[0] == name.repository.removeprefix(f"{name.registry}/"))
    has = f" This machine has {', '.join(same[:5])}." if same else ""
    return did_you_mean(str(name).removeprefix(f"{name.registry}/"), list(short)) or has


def _build_failure(cause: str, lines: list[str]) -> EnvironmentFailed:
    cause = cause.split(" &imagebuilder.")[0]  # Podman shows its own innards there
    starts = [i for i, line in enumerate(lines) if re.match(r"(?i)step \d+", line)]
    said = [line for line in (lines[starts[-1] :] if starts else lines) if not _OF_THE_ENGINE.match(line)]
    quote_ = "\n".join([*said[:1], *said[1:][-_MOST_LINES:]])
    if FULL.search(cause):
        return EnvironmentFailed(
            f"The disk is full while the Dockerfile is built: {cause}\n{quote_}\n{FREE_SPACE}", transient=True
        )
    away = _UNREACHABLE.search(cause) is not None
    step = _MEND
    if away:
        step = "Check the name after FROM, its registry and the network, then submit again."
    elif _BUILDKIT.search(cause):
        step = _WITHOUT_BUILDKIT
    return EnvironmentFailed("\n".join(filter(None, (f"The Dockerfile cannot be built: {cause}", quote_, step))),
                             transient=away)  # fmt: skip


def _follow(api: Api, path: str, auth: str | None, **query: object) -> None:
    """Do what a POST asks for, telling the log what is not mere progress."""
    headers = {"X-Registry-Auth": auth} if auth else {}
    for message in api.messages(path, b"", headers, **query):
        text = str(message.get("status") or message.get("stream") or "").strip()
        if text.startswith(_TOLD):
            api.work.log(f"{message['id']}: {text}" if message.get("id") else text)


def _lines(text: str) -> Iterator[str]:
    """Its lines that say something, without what a terminal would obey."""
    plain = (_CONTROL.sub("", line).rstrip() for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).splitlines())
    return (line for line in plain if line.strip())


def _pack(target: IO[bytes], dockerfile: str, folder: str | None) -> str:
    """Write a tar of the folder and the Dockerfile, the same for the same files; returns its SHA-256."""
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path, name in _files(folder) if folder else ():
            archive.add(path, name, recursive=False, filter=_plain)
        info = tarfile.TarInfo(_DOCKERFILE)
        info.size = len(dockerfile.encode())
        archive.addfile(info, io.BytesIO(dockerfile.encode()))
    target.seek(0)
    digest = hashlib.sha256()
    while chunk := target.read(_CHUNK):
        digest.update(chunk)
    target.seek(0)
    return digest.hexdigest()


def _files(folder: str) -> Iterator[tuple[str, str]]:
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *folders]):
            whole = os.path.join(path, name)
            yield whole, os.path.relpath(whole, folder)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
    return info
