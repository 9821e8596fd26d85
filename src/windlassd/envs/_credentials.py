"""Logins in addresses: refused wherever a package list comes in, since it is kept, locked, logged and shown."""

from __future__ import annotations

import re
from collections.abc import Iterator

from windlassd.envs.base import EnvironmentFailed

_LOGIN = re.compile(r"(?:(?<=://)[^/\s@:]*:[^/\s@]*|(?<=https://)[^/\s@]+|(?<=http://)[^/\s@]+)@")
_SIGNED = re.compile(r"(?<=[?&])((?:sig|token|\w+_token|X-Amz-Signature|X-Goog-Signature|key|password)=)[^&\s#]+", re.I)
_REFERENCES = re.compile(r"(?<=://)(?:\$\w+|\$\{\w+\}|:)+@")
"""A login by names of variables alone tells nothing."""
_DOCKERFILES = ("basedockerfile", "dockerfile", "dockerfiletext")
_USERS_OWN = ("environmentvariables", "variables")
"""What a script is to see in its environment is no address of a package."""


def refuse_credentials(entry: str, where: str = "pip_packages") -> None:
    """Raise EnvironmentFailed when the entry of a package list holds a login or a signature; shows neither."""
    if _SIGNED.search(entry):
        shown = _LOGIN.sub("****@", _SIGNED.sub(r"\1****", entry))
        raise EnvironmentFailed(
            f"{where}: the address in {shown!r} is signed, and who has it can read what lies there: it would stand in "
            "the run's record.",
            "Download the file, and give its folder with '--find-links <folder>', or PIP_FIND_LINKS where the server "
            "runs.",
        )
    if login := _LOGIN.search(entry):
        host = re.split(r"[/:\s]", entry[login.end() :])[0] or "<host>"
        raise EnvironmentFailed(
            f"{where}: {_LOGIN.sub('****@', entry)!r} holds a login, which would stand in the run's record, its lock "
            "and its log. Nothing was kept.",
            "Leave it out of the address here, and let the user who runs the server have it: in ~/.netrc (a line "
            f"'machine {host} login <user> password <token>', file mode 600) or, for an index, in the index-url of "
            "pip.conf. Both are read at each build.",
        )


def refuse_credentials_in_dockerfile(text: str) -> None:
    """The same for a Dockerfile's lines; the names of variables may stand where a login stands in an address."""
    for line in (_REFERENCES.sub("", line) for line in text.splitlines()):
        if _LOGIN.search(line) or _SIGNED.search(line):
            shown = _LOGIN.sub("****@", _SIGNED.sub(r"\1****", line.strip()))
            raise EnvironmentFailed(
                f"Dockerfile: {shown!r} holds a login, which would stand in the run's record, and in the image for "
                "everybody who gets it. Nothing was kept.",
                "Leave it out, and name the packages in the environment's conda_dependencies: they are installed on "
                "top of the image with the logins that the user who runs the server has in ~/.netrc or pip.conf, of "
                "which the image keeps nothing. Or build the image elsewhere, and name it (base_image).",
            )


def refuse_credentials_within(definition: object) -> None:
    """The same for every text of an environment's definition as the client sends it, but for its variables."""
    for name, text in _texts(definition):
        if name in _DOCKERFILES:
            refuse_credentials_in_dockerfile(text)
        else:
            refuse_credentials(text, "packages of the environment")


def _texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """(name in small letters of what holds it, text)."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            if (own := str(key).replace("_", "").lower()) not in _USERS_OWN:
                yield from _texts(item, own)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, name)
