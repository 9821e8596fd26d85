"""A model's files: which of this machine make one, and where a registered one lies on this machine."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Iterator, List, Optional, Sequence, Tuple

from windlass import settings
from windlass._files import kept_name
from windlass.errors import ModelNotFoundException, ModelPathNotFoundException, UserErrorException

if TYPE_CHECKING:
    from windlass.model import Model
    from windlass.workspace import Workspace

CACHE = "azureml-models"
"""Folder below the current one that models are downloaded to, as in v1."""


def local_files(model_path: str, child_paths: "Optional[Sequence[str]]") -> "List[Tuple[str, str]]":
    """(name in the model, place) of each file below ``model_path``, a file or a folder; sorted by name.

    Raises:
        ModelPathNotFoundException: nothing is there.
        UserErrorException: a child path leads outside, or the folder holds no file.
    """
    if not isinstance(model_path, (str, os.PathLike)) or not os.fspath(model_path):
        raise UserErrorException("model_path=%r must be the path of a file or a folder." % (model_path,))
    root = os.path.abspath(os.path.expanduser(os.fspath(model_path)))
    if not os.path.exists(root):
        raise ModelPathNotFoundException(
            "model_path=%r: there is no such file or folder (looked for %s). For what a run kept use "
            "run.register_model(...)." % (model_path, root)
        )
    base = os.path.basename(root) or "model"
    if os.path.isfile(root):
        if child_paths:
            raise UserErrorException("child_paths choose files of a folder, but model_path=%r is a file." % model_path)
        return [(base, root)]
    chosen = [root] if not child_paths else [_child(root, path) for path in child_paths]
    places = sorted({place for start in chosen for place in _below(start)})
    if not places:
        raise UserErrorException("model_path=%r holds no file; a model needs at least one." % (model_path,))
    return [("%s/%s" % (base, os.path.relpath(place, root).replace(os.sep, "/")), place) for place in places]


def model_path(name: str, version: "Optional[int]", workspace: "Optional[Workspace]") -> str:
    """Path of a model's file or folder on this machine; downloaded when it is not here yet.

    Looked for where a service finds its models (AZUREML_MODEL_DIR), then in the workspace: the one given, the job's, or
    the one the nearest config.json names. What was downloaded before is used again.

    Raises:
        ModelNotFoundException: there is no such model.
    """
    from windlass.workspace import Workspace

    served = settings.model_dir()
    if served:
        return _in_service(served, name, version)
    if workspace is None:
        job = settings.job_context()
        try:
            workspace = Workspace._at(job.workspace_dir) if job is not None else Workspace.from_config()
        except UserErrorException:
            found = _newest(os.path.join(CACHE, name), version)
            if found is not None:
                return found
            raise
    from windlass.model import Model

    return cached(Model(workspace, name, version=version))


def cached(model: "Model") -> str:
    """The model below ``azureml-models/``, downloaded whole or not at all, however many processes ask at once."""
    folder = os.path.join(CACHE, model.name, str(model.version))
    target = os.path.join(folder, model._base_name())
    if os.path.exists(target):
        return target
    beside = os.path.join(CACHE, model.name, ".%d-%d" % (model.version, os.getpid()))
    try:
        model.download(beside, exist_ok=True)
        try:
            os.rename(beside, folder)
        except OSError:  # another process was first
            if not os.path.exists(target):
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _in_service(root: str, name: str, version: "Optional[int]") -> str:
    """v1's layouts: the folder of the one model, or of all models as NAME/VERSION/…"""
    found = _newest(os.path.join(root, name), version)
    if found is not None:
        return found
    parts = os.path.abspath(root).split(os.sep)
    if parts[-2:-1] == [name] and parts[-1].isdigit() and version in (None, int(parts[-1])):
        return _only(root) or root
    entries = sorted(os.listdir(root)) if os.path.isdir(root) else []
    raise ModelNotFoundException(
        "There is no model %r%s in AZUREML_MODEL_DIR (%s). It has: %s."
        % (name, "" if version is None else " of version %d" % version, root, ", ".join(entries) or "nothing")
    )


def _newest(folder: str, version: "Optional[int]") -> "Optional[str]":
    """What lies in the highest version's folder below ``folder``, or in that of ``version``."""
    versions = [int(name) for name in os.listdir(folder) if name.isdigit()] if os.path.isdir(folder) else []
    if version is not None:
        versions = [known for known in versions if known == version]
    if not versions:
        return None
    return _only(os.path.join(folder, str(max(versions)))) or os.path.join(folder, str(max(versions)))


def _only(folder: str) -> "Optional[str]":
    entries = os.listdir(folder)
    return os.path.join(folder, entries[0]) if len(entries) == 1 else None


def _child(root: str, path: str) -> str:
    place = os.path.join(root, *kept_name(str(path).rstrip("/")).split("/"))
    if not os.path.exists(place):
        raise ModelPathNotFoundException("child_paths: there is no %r in %s." % (path, root))
    return place


def _below(start: str) -> "Iterator[str]":
    if os.path.isfile(start):
        yield start
        return
    for folder, folders, files in os.walk(start):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise UserErrorException(
                    "%s is a link to a folder; a model holds files and folders only. Copy it into the folder, or "
                    "leave it out with child_paths." % os.path.join(folder, name)
                )
        for name in files:
            place = os.path.join(folder, name)
            if not os.path.isfile(place):
                raise UserErrorException("%s is no file that could be kept; remove it, or use child_paths." % place)
            yield place
