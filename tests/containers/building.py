"""What tests of image builds share: a cache of their own over an engine, and looking into what lies in that."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from windlass import settings
from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._container_api import Api
from windlassd.envs.base import Ready, Work
from windlassd.envs.cache import EnvironmentCache

SEED = "microsoft/mmlspark:0.12"


class Kitchen:
    """A cache of environments, with its log."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.lines: list[str] = []
        self.on_line: Callable[[str], None] = lambda line: None
        self.cache = EnvironmentCache(os.path.join(settings.home(), "environments"))
        self.api = Api(engine, Work(lambda line: None, timeout_s=60))

    def prepare(self, spec: EnvironmentSpec, stop: threading.Event | None = None) -> Ready:
        """Prepare it; the log is in ``lines``."""
        self.lines.clear()
        return self.cache.prepare(spec, self._take, stop)

    def refresh(self, spec: EnvironmentSpec) -> Ready:
        """Resolve it anew."""
        self.lines.clear()
        return self.cache.refresh(spec, self._take)

    def _take(self, line: str) -> None:
        self.lines.append(line)
        self.on_line(line)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    def run(self, image: str, *argv: str) -> str:
        """What a program prints in a container of the image."""
        made = self.api.call(
            "POST", "/containers/create",
            {"Image": image, "Entrypoint": list(argv), "Cmd": [], "HostConfig": {"NetworkMode": "none"}, "Tty": True},
        )["Id"]  # fmt: skip
        try:
            self.api.call("POST", f"/containers/{made}/start")
            self.api.call("POST", f"/containers/{made}/wait")
            with self.api._answer("GET", f"/containers/{made}/logs", {"stdout": "1"}, None, {}) as answer:
                return answer.read().decode().replace("\r\n", "\n").strip()
        finally:
            self.api.call("DELETE", f"/containers/{made}", force="true", v="true")

    def python(self, ready: Ready, code: str) -> str:
        """What the environment's Python prints."""
        assert ready.image
        return self.run(ready.image, ready.python, "-c", code)

    def inspect(self, image: str) -> Any:
        """What the engine says of an image; None when it has none such."""
        return self.api.find(f"/images/{image}/json")

    def tags(self) -> set[str]:
        """Names of all images, without Podman's host."""
        images = self.api.call("GET", "/images/json")
        return {tag.removeprefix("docker.io/") for image in images for tag in image["RepoTags"] or []}

    def containers(self) -> list[Any]:
        """All that there are."""
        return list(self.api.call("GET", "/containers/json", all="1"))


def spec(*pip: str, image: str | None = SEED, **more: Any) -> EnvironmentSpec:
    """Packages in an image."""
    container = more.pop("container", None) or ContainerSpec(image=image)
    return EnvironmentSpec(pip_packages=pip, container=container, **more)
