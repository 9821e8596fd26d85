"""``Model``: a versioned model of the workspace; v1's ``azureml.core.Model``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional

from windlass._details import iso_time
from windlass._files import fetch, inside
from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options, refuse_unknown
from windlass._transport.client import quote
from windlass.errors import ModelNotFoundException, UserErrorException

if TYPE_CHECKING:
    from windlass.run import Run
    from windlass.workspace import Workspace

_CACHE = "azureml-models"
_NO_DATASETS = "Name them in tags."
_REGISTER_AGAIN = "Register a new version with run.register_model."
_SERVING = "Download the model and load it: Model.download()."


class Model:
    """One version of a model.

    Args:
        workspace: Where it is kept.
        name: Its name; or give ``id``.
        id: ``name:version``.
        tags: Only a version with these tags: a list of keys and [key, value] pairs, as in v1.
        properties: As ``tags``.
        version: None is the latest.
        run_id: Only a version that this run registered.
        model_framework: Only a version of this framework.
        expand: v1's own; everything known is always there.

    Raises:
        ModelNotFoundException: there is none.
    """

    class Framework:
        """Frameworks a model can be registered for."""

        CUSTOM = "Custom"
        MULTI = "Multi"
        ONNX = "Onnx"
        PYTORCH = "PyTorch"
        SCIKITLEARN = "ScikitLearn"
        TENSORFLOW = "TensorFlow"
        TFKERAS = "TfKeras"

    def __init__(
        self, workspace: "Workspace", name: "Optional[str]" = None, id: "Optional[str]" = None, tags: Any = None,
        properties: Any = None, version: "Optional[int]" = None, run_id: "Optional[str]" = None,
        model_framework: "Optional[str]" = None, expand: bool = True, **kwargs: Any,
    ) -> None:  # fmt: skip
        refuse_unknown("Model", kwargs)
        if id is not None:
            name, version = _split_id(id)
        if not name:
            raise UserErrorException("Model needs a name, or an id such as 'digits:1'.")
        if version is not None and not (tags or properties or run_id or model_framework):
            data = workspace._client.get("/v1/models/%s/versions/%d" % (quote(name), version))
        else:
            data = _first(workspace, name, version, run_id, tags, properties, model_framework)
        self._begin(workspace, data)

    def _begin(self, workspace: "Workspace", data: "Mapping[str, Any]") -> None:
        self._data = data
        self.workspace = workspace
        self.name: str = data["name"]
        self.version: int = int(data["version"])
        self.id = "%s:%d" % (self.name, self.version)
        self.tags: "Dict[str, str]" = dict(data.get("tags") or {})
        self.properties: "Dict[str, str]" = dict(data.get("properties") or {})
        self.description: "Optional[str]" = data.get("description")
        self.model_framework: "Optional[str]" = data.get("framework")
        self.model_framework_version: "Optional[str]" = data.get("framework_version")
        self.run_id: "Optional[str]" = data.get("run_id")
        self.created_time = iso_time(data.get("created"))
        self.size_bytes: int = int(data.get("size") or 0)
        self.sha256: str = data.get("sha256") or ""

    @classmethod
    def _of(cls, workspace: "Workspace", data: "Mapping[str, Any]") -> "Model":
        model = cls.__new__(cls)
        model._begin(workspace, data)
        return model

    @staticmethod
    def list(
        workspace: "Workspace", name: "Optional[str]" = None, tags: Any = None, properties: Any = None,
        run_id: "Optional[str]" = None, latest: bool = False, dataset_id: "Optional[str]" = None, expand: bool = True,
        page_count: int = 255, model_framework: "Optional[str]" = None,
    ) -> "List[Model]":  # fmt: skip
        """Models of the workspace, newest version first; ``latest`` keeps one version of each name."""
        refuse_options("Model.list", {"dataset_id": (dataset_id, None, _NO_DATASETS)})
        found: "List[Model]" = []
        for data in workspace._client.get("/v1/models", name=name, run_id=run_id)["models"]:
            if not _matches(data, tags, properties, model_framework):
                continue
            model = Model._of(workspace, data)
            newer = [known for known in found if known.name == model.name and known.version > model.version]
            if latest:
                if newer:
                    continue
                found = [known for known in found if known.name != model.name]
            found.append(model)
        return found

    @property
    def experiment_name(self) -> "Optional[str]":
        """Experiment of the run that made it."""
        return self.run.experiment.name if self.run is not None else None

    @property
    def run(self) -> "Optional[Run]":
        """The run that made it."""
        from windlass.run import Run

        return Run.get(self.workspace, self.run_id) if self.run_id else None

    def download(self, target_dir: str = ".", exist_ok: bool = False, exists_ok: "Optional[bool]" = None) -> str:
        """Write the model into ``target_dir``; returns the path of its file or folder.

        Args:
            target_dir: Made when it is not there.
            exist_ok: Replace what is there under its name.
            exists_ok: v1's older name of ``exist_ok``.

        Raises:
            UserErrorException: something is there under its name.
        """
        replace = exist_ok if exists_ok is None else exists_ok
        target = inside(target_dir, self._base_name())
        if os.path.exists(target) and not replace:
            raise UserErrorException("%s exists. Pass exist_ok=True to replace it, or another target_dir." % target)
        for path, place in self._places(target):
            address = "/v1/models/%s/versions/%d/files/" % (self.name, self.version)
            fetch(self.workspace._client, address, path, place)
        return target

    def _base_name(self) -> str:
        return os.path.basename((self._data.get("path") or "").rstrip("/")) or self.name

    def _places(self, target: str) -> "Iterable[tuple[str, str]]":
        """(name on the server, place here) of each of the model's files."""
        paths = [file["path"] for file in self._data.get("files") or ()]
        base = self._base_name()
        if paths == [base]:
            return [(base, target)]
        under_base = all(path.startswith(base + "/") for path in paths)
        return [(path, inside(target, path[len(base) + 1 :] if under_base else path)) for path in paths]

    @staticmethod
    def get_model_path(model_name: str, version: "Optional[int]" = None) -> str:
        """Path of a model on this machine, downloaded to ``azureml-models/`` unless it is there already.

        Raises:
            ModelNotFoundException: there is no such model.
        """
        from windlass.workspace import Workspace

        model = Model(Workspace.from_config(), model_name, version=version)
        folder = os.path.join(_CACHE, model.name, str(model.version))
        target = os.path.join(folder, model._base_name())
        return target if os.path.exists(target) else os.path.relpath(model.download(folder))

    def serialize(self) -> "Dict[str, Any]":
        """What is known of it, under v1's keys."""
        return {
            "createdTime": self.created_time, "createdBy": None, "description": self.description, "id": self.id,
            "mimeType": "application/x-python", "name": self.name, "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version, "tags": self.tags, "properties": self.properties,
            "unpack": False, "url": self._data.get("path"), "version": self.version,
            "experimentName": self.experiment_name, "runId": self.run_id, "runDetails": None, "datasets": [],
            "resourceConfiguration": None, "sampleInputDatasetId": None, "sampleOutputDatasetId": None,
        }  # fmt: skip

    def __repr__(self) -> str:
        return "Model(name=%r, version=%d, run_id=%r)" % (self.name, self.version, self.run_id)

    datasets = AbsentProperty(_NO_DATASETS)
    resource_configuration = AbsentProperty("Leave it out.")
    sample_input_dataset = AbsentProperty(_NO_DATASETS)
    sample_output_dataset = AbsentProperty(_NO_DATASETS)
    add_dataset_references = AbsentMethod(_NO_DATASETS)
    add_properties = AbsentMethod(_REGISTER_AGAIN)
    add_tags = AbsentMethod(_REGISTER_AGAIN)
    delete = AbsentMethod("Models are kept.")
    deploy = AbsentMethod(_SERVING)
    deserialize = AbsentMethod("Use Model(workspace, name, version=...).")
    get_sas_urls = AbsentMethod(_SERVING)
    package = AbsentMethod(_SERVING)
    print_configuration = AbsentMethod(_SERVING)
    profile = AbsentMethod(_SERVING)
    register = AbsentMethod("Register what a run kept: run.upload_file(...), then run.register_model(...).")
    remove_tags = AbsentMethod(_REGISTER_AGAIN)
    update = AbsentMethod(_REGISTER_AGAIN)
    update_tags_properties = AbsentMethod(_REGISTER_AGAIN)


def register_from_run(workspace: "Workspace", run_id: str, **values: Any) -> Model:
    """A new version made of what the run keeps at ``path``; ``values`` are those of ``POST /v1/models``."""
    for key in ("tags", "properties"):
        given = values[key]
        if given is not None and not isinstance(given, dict):
            raise UserErrorException("%s must be a dictionary, not %r." % (key, given))
        values[key] = {str(name): "" if value is None else str(value) for name, value in (given or {}).items()}
    for key in ("name", "path"):
        if not isinstance(values[key], str) or not values[key]:
            raise UserErrorException("model_%s=%r must be text." % (key, values[key]))
    values["path"] = values["path"].replace("\\", "/")
    while values["path"].startswith("./"):
        values["path"] = values["path"][2:]
    return Model._of(workspace, workspace._client.post("/v1/models", dict(values, run_id=run_id)))


def _first(
    workspace: "Workspace", name: str, version: "Optional[int]", run_id: "Optional[str]", tags: Any, properties: Any,
    framework: "Optional[str]",
) -> "Mapping[str, Any]":  # fmt: skip
    found = workspace._client.get("/v1/models", name=name, run_id=run_id)["models"]
    fits = [
        data for data in found
        if version in (None, data["version"]) and _matches(data, tags, properties, framework)
    ]  # fmt: skip
    if fits:
        return dict(max(fits, key=lambda data: int(data["version"])))
    if found:
        raise ModelNotFoundException("No version of the model %r has what was asked for (it has versions %s)." % (
            name, ", ".join(sorted(str(data["version"]) for data in found))))  # fmt: skip
    data = workspace._client.get("/v1/models/%s/versions/latest" % quote(name))  # raises, naming near matches
    return dict(data)


def _matches(data: "Mapping[str, Any]", tags: Any, properties: Any, framework: "Optional[str]") -> bool:
    if framework is not None and data.get("framework") != framework:
        return False
    return _has(data.get("tags") or {}, tags) and _has(data.get("properties") or {}, properties)


def _has(values: "Mapping[str, str]", wanted: Any) -> bool:
    """True when ``values`` has v1's filter: a list of keys and [key, value] pairs, a dictionary, or one key."""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in values
    items = wanted.items() if isinstance(wanted, dict) else wanted
    return all(item in values if isinstance(item, str) else values.get(str(item[0])) == str(item[1]) for item in items)


def _split_id(id: str) -> "tuple[str, int]":
    name, colon, version = str(id).rpartition(":")
    if not colon or not version.isdigit():
        raise UserErrorException("id=%r is not a model's id such as 'digits:1'." % id)
    return name, int(version)
