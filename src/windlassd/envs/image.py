"""An image's own Python, taken as it is (``user_managed`` with a container)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import _container_base, _container_images, _container_session, container_engine
from windlassd.envs._container_api import Api
from windlassd.envs._container_python import Found, named
from windlassd.envs._index import index_settings
from windlassd.envs._layout import containers_dir
from windlassd.envs._requirements import refused_packages
from windlassd.envs.base import EnvironmentFailed, Lock, Work
from windlassd.envs.container import refused_image
from windlassd.envs.interpreters import fits
from windlassd.envs.registry_logins import logins_of

_NAMES = ("python", "python3")


class ImageBuilder:
    """Has the image, and finds the interpreter that the spec names in it; builds nothing.

    Args:
        root: The cache's folder, ``<WINDLASS_HOME>/environments``.
    """

    name = "image"
    in_place = True

    def __init__(self, root: str) -> None:
        self._scratch = containers_dir(root)
        self._logins = logins_of(root)

    def unsupported(self, spec: EnvironmentSpec) -> Mapping[str, str]:
        """Feature → reason; packages are the image's own affair here."""
        reasons = {}
        if reason := refused_image(spec.container):
            reasons["image"] = reason
        nothing = "nothing is installed into an image that its user manages; install them in its Dockerfile"
        return {**reasons, **refused_packages(spec, nothing)}

    def request(self, spec: EnvironmentSpec) -> Mapping[str, object]:
        """Nothing but what kind of machine it is: the image stays the one that its name had when it was looked up."""
        return {"builder": self.name, "machine": os.uname().machine}

    def resolve(self, spec: EnvironmentSpec, work: Work) -> Lock:
        """A lock that names the image and its interpreter, after running that once."""
        assert spec.container
        api = Api(container_engine.address(), work)
        scratch = os.path.join(self._scratch, f"context.{secrets.token_hex(8)}")
        image = _container_base.base_image(api, spec.container, self._logins, scratch)
        name = _container_base.describe(spec.container)
        with _container_session.opened(api, image, self._scratch, index_settings()) as session:
            asked = (spec.interpreter,) if spec.interpreter else _NAMES
            python = next((found for word in asked if (found := named(session, word))), None)
        if python is None:
            raise EnvironmentFailed(
                f"The image {name} has no Python that is called {' or '.join(asked)}, or it does not work.",
                "Name the interpreter with its path in the image (python.interpreter_path), or leave "
                "user_managed_dependencies out, so that an environment is made on the image's Python.",
            )
        notes = _notes(spec, name, _container_base.note(spec.container, image), python)
        for note in notes:
            work.log(note)
        return Lock(
            self.name,
            python.called,
            python.version,
            python.platform,
            (),
            tuple(notes),
            _container_images.image_id(image),
        )

    def build(self, lock: Lock, prefix: str, work: Work) -> None:
        """Refuse: nothing is ever built here."""
        raise EnvironmentFailed(f"The image {lock.image} is its user's; there is nothing to build.")

    def interpreter(self, lock: Lock, prefix: str) -> str:
        """Its path in the image."""
        return lock.python

    def check(self, lock: Lock, prefix: str, work: Work) -> str | None:
        """None while the engine has the image."""
        there = _container_images.inspect(Api(container_engine.address(), work), lock.image or "")
        return None if there else f"the container engine does not have the image {lock.image}"

    def place(self, lock: Lock, prefix: str) -> tuple[str, str]:
        """The image, and the engine that has it."""
        return lock.image or "", container_engine.address()

    def is_there(self, lock: Lock, prefix: str) -> bool:
        """False when the engine in use does not have the image."""
        return container_engine.has_image(container_engine.address(), lock.image or "")

    def outside_bytes(self, lock: Lock, prefix: str) -> int:
        """Nothing: the image is not Windlass's."""
        return 0

    def discard(self, lock: Lock, prefix: str) -> None:
        """Nothing: the image stays."""


def _notes(spec: EnvironmentSpec, name: str, note: str, python: Found) -> list[str]:
    if not python.usable:
        raise EnvironmentFailed(
            f"The interpreter {python.called} of the image {name} is Python {python.version}; jobs run on Python 3.7 "
            "and newer.",
            "Name a newer one.",
        )
    notes = [
        note,
        f"Python {python.version} ({python.called}), managed by its user.",
    ]
    if spec.python_version and not fits(python.interpreter.numbers, spec.python_version):
        notes.append(f"python_version {spec.python_version} has no effect on an environment that its user manages.")
    return notes


def create(interpreters_file: str) -> ImageBuilder:
    """The builder, for the registry."""
    return ImageBuilder(os.path.dirname(interpreters_file))
