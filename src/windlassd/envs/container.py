"""Environments in images: the packages are resolved and installed by uv inside a container of the base image.

With packages of conda's channels, or a Python of theirs where the image has none, it is a conda prefix in the image.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from windlass import settings
from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import (
    _container_base,
    _container_bases,
    _container_conda,
    _container_images,
    _container_session,
    _container_tools,
    container_engine,
)
from windlassd.envs._conda_cache import folder
from windlassd.envs._conda_resolve import ChannelResolver, PrefixLock, channels_in_force
from windlassd.envs._conda_solve import Rattler, conda_lines
from windlassd.envs._container_api import Api, EngineRefused
from windlassd.envs._container_images import Name
from windlassd.envs._container_python import Found, NoPython, candidates, pythons
from windlassd.envs._container_session import Session
from windlassd.envs._credentials import refuse_credentials_in_dockerfile
from windlassd.envs._frameworks import chosen, framework_notes, has_gpu, refused
from windlassd.envs._health import HEALTH, wrong_answer
from windlassd.envs._index import index_settings
from windlassd.envs._install import install
from windlassd.envs._layout import containers_dir, read_json, write_json
from windlassd.envs._requirements import Wanted, wanted
from windlassd.envs._resolve import option_lines, resolve
from windlassd.envs._uv_errors import UvFailed
from windlassd.envs.base import CONDA, EnvironmentFailed, Lock, LockOutdated, Work
from windlassd.envs.interpreters import any_python, too_old
from windlassd.envs.registry_logins import logins_of

PREFIX = "/opt/windlass/env"
"""The environment inside its image."""
MADE_FILE = "image.json"
"""In an environment's folder: ``image``, ``engine`` and ``bytes``, which it adds to its base."""
KEY_LABEL, PYTHON_LABEL, BASE_LABEL = "windlass.key", "windlass.python", "windlass.base"
_REGISTRY = re.compile(r"(https?://)?[\w.-]+(:\d+)?(/[a-z0-9][a-z0-9._-]*)*/?\Z")
_COUNT = (
    "; import os, site; print(sum(name.endswith(('.dist-info', '.egg-info')) "
    "for name in os.listdir(site.getsitepackages()[0])))"
)
_CONDA_COUNT = "; import os; print(sum(name.endswith('.json') for name in os.listdir(sys.prefix + '/conda-meta')))"


class ContainerBuilder:
    """Makes images ``windlass/env:<key>`` out of a base image and a package list.

    Args:
        root: The cache's folder, ``<WINDLASS_HOME>/environments``.
    """

    name = "container"
    in_place = False

    def __init__(self, root: str) -> None:
        self._root = root
        self._scratch = containers_dir(root)
        self._rattler = Rattler(folder(root))
        self._logins = logins_of(root)

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason for what cannot be in an image."""
        if reason := refused_image(spec.container):
            return {"image": reason}
        try:
            python = wanted(spec).python
            if _may_ask_channels(spec):
                channels_in_force(spec)
        except EnvironmentFailed as e:
            return {"packages": e.message}
        if python and (reason := too_old(python)):
            return {"python_version": reason}
        known = refused(spec, any_python)  # which Pythons the image has is known when it is looked into
        return {"framework_version" if spec.framework_version else "framework": known} if known else {}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """Index settings, what a framework adds, and what kind of machine it is."""
        framework = chosen(spec)
        return {
            "builder": self.name,
            "machine": os.uname().machine,
            "framework": [framework.requirement, *framework.along] if framework else None,
            "gpu": has_gpu(),
            "index": index_settings().public,
            **(channels_in_force(spec) if _may_ask_channels(spec) else {}),
        }

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """The spec's packages to the last version, in the newest Python of the base image where all of them fit.

        What only conda's channels have comes from there together with a Python; so does a Python that the image lacks
        for a list that names channels or conda packages.
        """
        assert spec.container
        api = self._api(work)
        image = _container_base.base_image(api, spec.container, self._logins, self._new("context"))
        _container_base.refuse_volume(spec.container, image, PREFIX)
        name, want = _container_base.describe(spec.container), wanted(spec)
        note = _container_base.note(spec.container, image)
        base = _container_images.image_id(image)

        def locked(python: str, version: str, platform: str, lines: Sequence[str], notes: Sequence[str]) -> Lock:
            work.log(note)
            return Lock(self.name, python, version, platform, lines, (note, *notes), base)

        with self._session(api, image, *want.requirements, *want.options) as session:
            image_python = functools.partial(_on_its_python, spec, want, name, session, locked)
            if not _may_ask_channels(spec):
                return image_python()
            glibc = functools.cache(functools.partial(_container_conda.glibc, session, name))
            resolver = ChannelResolver(spec, self._rattler, work, glibc)
            return _with_channels(resolver, image_python, functools.partial(_of_channels, glibc, locked))

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Have the image ``windlass/env:<key>``: here already, from the registry, or made now; and note it."""
        api = self._api(work)
        name = Name("windlass/env", lock.key)
        image = self._here(api, lock, name)
        pulled = None if image else self._from_registry(api, lock, name)
        image = image or pulled or self._made(api, lock, name)
        if not pulled:
            self._to_registry(api, image, lock)
        size = _container_images.own_layers_bytes(api, image)
        made = {"image": image, "engine": api.engine, "bytes": size}
        write_json(os.path.join(prefix, MADE_FILE), made, prefix)

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """Its path in the image."""
        return f"{PREFIX}/bin/python"

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """Whether the engine has the image, and with the Python of the lock, which was started before the commit."""
        made = read_json(os.path.join(prefix, MADE_FILE)) or {}
        image = _container_images.inspect(Api(str(made.get("engine")), work), str(made.get("image")))
        if image is None:
            return f"the container engine does not have the image {made.get('image')}"
        version = _labels(image).get(PYTHON_LABEL)
        return None if version == lock.python_version else f"its Python is {version}, not {lock.python_version}"

    # What lies in the engine (``Outside``, ``InImages``)

    def place(self, lock: Lock, prefix: str) -> tuple[str, str]:
        """The image, and the engine that has it."""
        made = read_json(os.path.join(prefix, MADE_FILE)) or {}
        return str(made["image"]), str(made["engine"])

    def is_there(self, lock: Lock, prefix: str) -> bool:
        """False when the engine in use does not have the image."""
        made = read_json(os.path.join(prefix, MADE_FILE))
        return made is not None and container_engine.has_image(str(made["engine"]), str(made["image"]))

    def outside_bytes(self, lock: Lock, prefix: str) -> int:
        """What the image adds to its base."""
        made = read_json(os.path.join(prefix, MADE_FILE))
        return int(made["bytes"]) if made else 0

    def discard(self, lock: Lock, prefix: str) -> None:
        """Remove the image with all its names, and that of a Dockerfile under it unless something else needs it.

        Raises:
            EnvironmentFailed: a container uses it, or its engine is not there.
        """
        made = read_json(os.path.join(prefix, MADE_FILE))
        if made is None:
            return
        try:
            _container_images.remove(Api(str(made["engine"]), Work(lambda line: None, timeout_s=120)), made["image"])
        except EngineRefused as e:
            raise EnvironmentFailed(
                f"The image of the environment {lock.key} cannot be removed: {e.said}",
                "Remove the containers that use it (docker ps --all, podman ps --all) and try again.",
            ) from e
        _container_bases.drop_unneeded(self._root, besides=lock.key)

    def sweep(self) -> None:
        """Remove containers of builds whose server was killed, and images of Dockerfiles that nothing needs.

        This comes from a thread of low priority, which the jobs of an engine that it starts would get as well: it takes
        one that runs anyway.
        """
        _container_session.forget_unused(self._scratch)
        _container_bases.drop_unneeded(self._root)
        if _container_session.abandoned(self._scratch):
            _container_session.sweep(self._scratch, container_engine.address(start=False))

    def _api(self, work: Work) -> Api:
        return Api(container_engine.address(), work)

    def _new(self, what: str) -> str:
        return os.path.join(self._scratch, f"{what}.{secrets.token_hex(8)}")

    def _session(self, api: Api, image: Mapping[str, Any], *wanted: str) -> AbstractContextManager[Session]:
        return _container_session.opened(api, image, self._scratch, index_settings(), *wanted)

    def _here(self, api: Api, lock: Lock, name: Name) -> str | None:
        image = _container_images.inspect(api, str(name))
        if image is None or _labels(image).get(KEY_LABEL) != lock.key:
            return None
        api.work.log(f"The image {name} is on this machine.")
        return _container_images.image_id(image)

    def _from_registry(self, api: Api, lock: Lock, name: Name) -> str | None:
        """The image that another machine has pushed, if it has."""
        remote = _remote(lock)
        if remote is None:
            return None
        try:
            image = _container_images.pull(api, remote, self._logins)
        except EnvironmentFailed as e:
            api.work.give_up()
            why = e.message.splitlines()[0]
            absent = why.startswith("There is no image")
            api.work.log(f"It is not from the registry, and built. {why}" if not absent else
                         f"{remote.registry} does not have it yet, so it is built.")  # fmt: skip
            return None
        if _labels(image).get(KEY_LABEL) != lock.key:
            api.work.log(f"{remote} is not what its name says, so it is built.")
            return None
        found = _container_images.image_id(image)
        _container_images.tag(api, found, name)
        return found

    def _to_registry(self, api: Api, image: str, lock: Lock) -> None:
        remote = _remote(lock)
        if remote is None:
            return
        api.work.log(f"Pushing {remote}.")
        try:
            _container_images.push(api, image, remote, self._logins)
        except EngineRefused as e:
            why = _container_images.push_failure(remote, self._logins.mask(e.said))
            api.work.log(f"{why.message} The environment is kept on this machine alone.")

    def _made(self, api: Api, lock: Lock, name: Name) -> str:
        base = _container_images.inspect(api, lock.image or "")
        if base is None:
            raise LockOutdated(f"The image {lock.image}, on which the environment is to be built, is gone.",
                               "Submit again: it is looked up anew.")  # fmt: skip
        index = index_settings()
        with self._session(api, base, *(line for line in lock.requirements if not line.startswith(CONDA))) as session:
            session.sh(_prepared(session.user), root=True)
            variables: Mapping[str, str] = {}
            if conda_lines(lock.requirements):
                variables = _container_conda.make(session, self._rattler, lock, PREFIX)
            else:
                argv = ["venv", "--no-project", "--quiet", "--python", lock.python, PREFIX]
                session.uv(argv, index, api.work, asked=(), python_version=lock.python_version)
                install(lock, f"{PREFIX}/bin/python", index, api.work, "--compile-bytecode", uv=session.uv)
            if wrong := _wrong(session, lock):
                raise EnvironmentFailed(f"The environment was made in the image but does not work: {wrong}.",
                                        "Submit again; if it stays so, try another image.")  # fmt: skip
            api.work.log("Committing the image.")
            image = _container_conda.committed(session, _changes(base, lock), variables)
        _container_images.tag(api, image, name)
        found = _container_images.inspect(api, str(name))
        assert found
        return _container_images.image_id(found)


def refused_image(asked: ContainerSpec | None) -> str | None:
    """Why an image cannot be meant by ``asked``; None when one can."""
    if asked is None or not (asked.image or asked.dockerfile):
        return "neither an image nor a Dockerfile is named"
    if asked.image and asked.dockerfile:
        return f"both an image ({asked.image}) and a Dockerfile are named; one of them is the base"
    try:
        if asked.image:
            Name.read(asked.image, asked.registry)
        refuse_credentials_in_dockerfile(asked.dockerfile or "")
    except EnvironmentFailed as e:
        return e.message
    return None


def _may_ask_channels(spec: EnvironmentSpec) -> bool:
    return bool(spec.conda_packages or spec.channels)


def _with_channels(
    resolver: ChannelResolver, image_python: Callable[[], Lock], of_channels: Callable[[PrefixLock], Lock]
) -> Lock:
    """The lock of a list that may need the channels: for a package, or for a Python."""

    def of_pypi() -> Lock:
        try:
            return image_python()
        except NoPython as lacking:
            resolver.work.log(f"{lacking.said} Python is taken from the conda channels.")
            try:
                return of_channels(resolver.prefix(wanted(resolver.spec)))
            except UvFailed:
                raise
            except EnvironmentFailed as failure:
                said = f"{lacking.said} The conda channels: {failure.message}"
                raise EnvironmentFailed(said, transient=failure.transient) from failure

    return resolver.resolve(of_pypi, of_channels)


def _of_channels(glibc: Callable[[], str], locked: Callable[..., Lock], found: PrefixLock) -> Lock:
    platform = f"linux-{os.uname().machine}-glibc{glibc()}"
    return locked(f"{PREFIX}/bin/python", found.python, platform, found.lines, found.notes)


def _on_its_python(
    spec: EnvironmentSpec, want: Wanted, image: str, session: Session, locked: Callable[..., Lock]
) -> Lock:
    """The lock on a Python of the image.

    Raises:
        NoPython: it has none that is wanted.
    """
    python, notes, lines = _resolved(spec, want, pythons(session), image, session)
    for note in notes:
        session.api.work.log(note)
    return locked(python.path, python.version, python.platform, lines, notes)


def _resolved(
    spec: EnvironmentSpec, want: Wanted, known: Sequence[Found], image: str, session: Session
) -> tuple[Found, Sequence[str], Sequence[str]]:
    """(the Python, sentences for the user, what the lock has as requirements)."""
    fitting = candidates(known, want.python, image)
    if not want.requirements:
        # The image's own python, if it will do: nothing speaks for another.
        python = fitting[0] if want.python else next(item for item in known if item.usable)
        alone = "Nothing is installed, and the image's own packages are not in the environment: for those set "
        notes = [f"Python {python.version} ({python.path}).", f"{alone}user_managed_dependencies.", *want.notes]
        return python, notes, ()
    index, work = index_settings(), session.api.work
    found = resolve(want, [item.interpreter for item in fitting], index, work, uv=session.uv)
    notes = [*found.notes, *framework_notes(spec, want.requirements, found.pins), *want.notes, *found.satisfied]
    python = next(item for item in fitting if item.path == found.python.path)
    return python, notes, (*option_lines(want, found.extra), *found.pins)


def _prepared(user: str) -> str:
    """A script that makes the place of the environment, where ``user`` may write."""
    folder = os.path.dirname(PREFIX)
    make, own = (
        " ".join(_container_tools.command(*words)) for words in (("mkdir", "-p", folder), ("chown", user, folder))
    )
    return f"{make} && {own}"


def _wrong(session: Session, lock: Lock) -> str | None:
    """What is wrong with the environment in the session's container, or None; starts its interpreter once."""
    conda = len(conda_lines(lock.requirements))
    script = HEALTH + (_CONDA_COUNT if conda else _COUNT)
    done = session.program(f"{PREFIX}/bin/python", "-I", "-c", script)
    if wrong := wrong_answer(done.code, done.out, done.err, lock, PREFIX):
        return wrong
    count = done.out.split("\n")[1]
    wanted = conda or lock.package_count
    return None if int(count) >= wanted else f"{count} of {wanted} packages are there"


def _changes(base: Mapping[str, Any], lock: Lock) -> Sequence[str]:
    """Dockerfile instructions that give the image back what the build container had otherwise, and labels."""
    config = base.get("Config") or {}
    labels = {KEY_LABEL: lock.key, PYTHON_LABEL: lock.python_version, BASE_LABEL: lock.image or "",
              _container_session.LABEL: ""}  # fmt: skip
    return [
        *([f"ENTRYPOINT {json.dumps(config['Entrypoint'])}"] if config.get("Entrypoint") else []),
        f"CMD {json.dumps(config.get('Cmd') or [f'{PREFIX}/bin/python'])}",
        f"USER {config.get('User') or '0'}",
        f"WORKDIR {config.get('WorkingDir') or '/'}",
        *(f'LABEL {name}="{value}"' for name, value in labels.items()),
    ]


def _labels(image: Mapping[str, Any]) -> Mapping[str, str]:
    return (image.get("Config") or {}).get("Labels") or {}


def _remote(lock: Lock) -> Name | None:
    """The image's name in the registry that is set, or None.

    Raises:
        EnvironmentFailed: the setting is no address of one.
    """
    place = settings.get("container_registry")
    if place and not _REGISTRY.match(place):
        raise EnvironmentFailed(
            f"container_registry={place!r} is no address of a registry.",
            "Write it like 'registry.lab:5000/windlass', in lower case, and restart the server; or leave it out.",
        )
    return Name.read(f"env:{lock.key}", place) if place else None


def create(interpreters_file: str) -> ContainerBuilder:
    """The builder, for the registry."""
    return ContainerBuilder(os.path.dirname(interpreters_file))
