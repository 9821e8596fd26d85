"""The base image of an environment: here, pulled, or built from its Dockerfile; one that this machine can run."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Mapping
from typing import Any

from windlass.specs.container import ContainerSpec
from windlassd.envs import _container_bases
from windlassd.envs import _container_images as images
from windlassd.envs._container_api import Api
from windlassd.envs._container_images import Name
from windlassd.envs.base import EnvironmentFailed
from windlassd.envs.registry_logins import RegistryLogins

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def base_image(api: Api, asked: ContainerSpec, logins: RegistryLogins, scratch: str) -> Mapping[str, Any]:
    """What the engine says of the image that ``asked`` names, which it has afterwards.

    Args:
        api: The engine, with the work that it is for.
        asked: The image.
        logins: For its registry.
        scratch: A folder that does not exist, for the files of a Dockerfile, in ``<WINDLASS_HOME>/containers``.

    Raises:
        EnvironmentFailed: it cannot be had, or not run here.
    """
    found = _built(api, asked, logins, scratch) if asked.dockerfile else _by_name(api, asked, logins)
    _refuse_foreign(found, describe(asked))
    return found


def describe(asked: ContainerSpec) -> str:
    """What to call the image in messages."""
    return "of the Dockerfile" if asked.dockerfile else str(Name.read(asked.image or "", asked.registry))


def note(asked: ContainerSpec, image: Mapping[str, Any]) -> str:
    """The sentence on the image, for the run's record."""
    what = "built from the Dockerfile" if asked.dockerfile else describe(asked)
    return f"Container image: {what} ({images.image_id(image)[:19]})."


def refuse_volume(asked: ContainerSpec, image: Mapping[str, Any], place: str) -> None:
    """Refuse an image of which ``place`` lies in a volume: what is written there is in no image made from it.

    Raises:
        EnvironmentFailed: it does.
    """
    volumes = (image.get("Config") or {}).get("Volumes") or ()
    found = next((path for path in volumes if f"{place}/".startswith(f"{path.rstrip('/')}/")), None)
    if found:
        raise EnvironmentFailed(
            f"The image {describe(asked)} declares {found} a volume (VOLUME), so nothing that is installed to {place} "
            "can be kept in an image.",
            "Take one without that volume, or install the packages in its Dockerfile and set "
            "user_managed_dependencies.",
        )


def _by_name(api: Api, asked: ContainerSpec, logins: RegistryLogins) -> Mapping[str, Any]:
    name = Name.read(asked.image or "", asked.registry)
    here = images.inspect(api, str(name))
    if here is None:
        return images.pull(api, name, logins, asked.username)
    fixed = ":" in name.tag
    if not api.work.anew or fixed or not here.get("RepoDigests"):
        api.work.log(f"The image {name} is on this machine.")
        return here
    try:
        return images.pull(api, name, logins, asked.username)
    except EnvironmentFailed as e:
        api.work.give_up()
        api.work.log(f"{e.message.splitlines()[0]} The one on this machine is used.")
        return here


def _built(api: Api, asked: ContainerSpec, logins: RegistryLogins, scratch: str) -> Mapping[str, Any]:
    if asked.context and api.work.unpack is None:
        raise EnvironmentFailed("The files of the Dockerfile's context are not at hand.", "Submit again.")
    api.work.log("Building the image of the Dockerfile.")
    try:
        if asked.context and api.work.unpack:
            os.makedirs(scratch, mode=0o700)
            api.work.unpack(asked.context, scratch)
        place, containers = scratch if asked.context else None, os.path.dirname(scratch)
        named = functools.partial(_container_bases.name_for, containers)
        name, found = images.build(api, asked.dockerfile or "", place, logins, named)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _container_bases.note(containers, name, images.image_id(found), api.engine)
    return found


def _refuse_foreign(image: Mapping[str, Any], name: str) -> None:
    machine = platform.machine()
    made_for, system = str(image.get("Architecture") or ""), str(image.get("Os") or "linux")
    if system != "linux" or made_for not in ("", _ARCHITECTURES.get(machine, machine)):
        raise EnvironmentFailed(
            f"The image {name} is made for {system}/{made_for}, and this machine is linux/"
            f"{_ARCHITECTURES.get(machine, machine)}.",
            "Take an image, or a tag of it, that is made for this machine.",
        )
