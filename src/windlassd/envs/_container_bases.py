"""Images that were made from Dockerfiles: noted in the home, and removed when nothing of it needs them any more."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Iterator

from windlass import settings
from windlassd.envs import _container_images
from windlassd.envs._container_api import Api, EngineRefused
from windlassd.envs._layout import Layout, containers_dir, read_json, write_json
from windlassd.envs.base import EnvironmentFailed, Work

_YOUNG_S = 600.0
"""One that was made so recently may be about to be built upon."""
_ENGINE_S = 60.0
_logger = logging.getLogger(__name__)


def name_for(containers: str, content: str) -> str:
    """The name of the image of a Dockerfile: another one in each home, so that none removes the other's.

    Args:
        containers: ``<WINDLASS_HOME>/containers``.
        content: Hash of the Dockerfile and its files.
    """
    return f"windlass/base:{hashlib.sha256(f'{content} {os.path.abspath(containers)}'.encode()).hexdigest()[:32]}"


def note(containers: str, name: str, image: str, engine: str) -> None:
    """Remember that the home had the engine make the image, before anything is built upon it."""
    folder = os.path.join(containers, "bases")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    # One note for each image: a name that moves to a newer one leaves the older without any.
    path = os.path.join(folder, f"{name.rpartition(':')[2]}-{image.removeprefix('sha256:')[:16]}.json")
    write_json(path, {"name": name, "image": image, "engine": engine}, folder)


def drop_unneeded(root: str, besides: str | None = None) -> None:
    """Remove the images that neither an environment of the cache at ``root`` nor a request needs.

    Args:
        root: The cache's folder.
        besides: Key of an environment that is just being removed.
    """
    needed: set[str] | None = None
    for path, known in _old_notes(root):
        needed = _needed(Layout(root), besides) if needed is None else needed
        if known["image"] in needed:
            continue
        try:
            _remove(known["engine"], known["name"], known["image"])
        except EnvironmentFailed as problem:  # it is tried again with the next one
            _logger.info("the image %s of a Dockerfile stays for now: %s", known["name"], problem.message)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _old_notes(root: str) -> Iterator[tuple[str, dict[str, str]]]:
    folder = os.path.join(containers_dir(root), "bases")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            if not name.endswith(".json") or time.time() - os.stat(path).st_mtime < _YOUNG_S:
                continue
        found = read_json(path)
        if found and {"name", "image", "engine"} <= found.keys():
            yield path, {key: str(value) for key, value in found.items()}


def _needed(layout: Layout, besides: str | None) -> set[str]:
    """Ids of the images under environments that are built, and of those that are taken as they are."""
    ttl_s: float = settings.get("environment_ttl_s")
    built = set(layout.built_keys()) - {besides}
    asked = {record.lock for _, record in layout.requests() if time.time() - record.made <= ttl_s}
    locks = [lock for key in built | asked if (lock := layout.lock(key))]
    return {lock.image for lock in locks if lock.image and (lock.key in built or lock.builder == "image")}


def _remove(engine: str, name: str, image: str) -> None:
    """Take the name from the image, which goes with its last one.

    Raises:
        EnvironmentFailed: a container uses it, or the engine does not answer.
    """
    api = Api(engine, Work(lambda line: None, timeout_s=_ENGINE_S))
    there = _container_images.inspect(api, image)
    if there is None:
        return
    names = there.get("RepoTags") or []
    ours = next((known for known in names if known == name or known.endswith(f"/{name}")), None)  # Podman adds a host
    if names and not ours:
        return  # it has another name by now
    try:
        api.call("DELETE", f"/images/{ours or image}")
    except EngineRefused as e:
        if e.status != 404:
            raise
