"""``Model``: a versioned model of the workspace; v1's ``azureml.core.Model``."""

from __future__ import annotations

import getpass
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from windlass import settings
from windlass._details import iso_time
from windlass._files import fetch, inside
from windlass._not_offered import AbsentMethod, refuse_unknown
from windlass._transport.client import quote
from windlass.errors import ModelNotFoundException, UserErrorException
from windlass.resource_configuration import ResourceConfiguration

if TYPE_CHECKING:
    from windlass.run import Run
    from windlass.workspace import Workspace

_SERVING = "Download the model and load it: Model.download()."
_MISSING = "model_content_missing"


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
        if version is not None and (isinstance(version, bool) or not str(version).isdigit()):
            raise UserErrorException("version=%r of the model %r must be a whole number." % (version, name))
        if tags or properties or run_id or model_framework:
            data = _first(workspace, name, version, run_id, tags, properties, model_framework)
        else:
            data = workspace._client.get(_address(name, "latest" if version is None else version))
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
        self.created_by: "Optional[str]" = data.get("created_by")
        self.size_bytes: int = int(data.get("size") or 0)
        self.sha256: str = data.get("sha256") or ""
        self.mime_type = "application/x-python"
        self.unpack = False
        self.url = "aml://asset/%s" % self.id
        self.parent_id: "Optional[str]" = None
        self.derived_model_ids: "List[str]" = []
        self.resource_configuration = ResourceConfiguration.deserialize(data.get("resources"))

    @classmethod
    def _of(cls, workspace: "Workspace", data: "Mapping[str, Any]") -> "Model":
        model = cls.__new__(cls)
        model._begin(workspace, data)
        return model

    @staticmethod
    def register(
        workspace: "Workspace", model_path: str, model_name: str, tags: Any = None, properties: Any = None,
        description: "Optional[str]" = None, datasets: Any = None, model_framework: "Optional[str]" = None,
        model_framework_version: "Optional[str]" = None, child_paths: "Optional[Sequence[str]]" = None,
        sample_input_dataset: Any = None, sample_output_dataset: Any = None,
        resource_configuration: "Optional[ResourceConfiguration]" = None,
    ) -> "Model":  # fmt: skip
        """A new version made of a file or folder of this machine.

        Args:
            workspace: Where to keep it.
            model_path: The file, or the folder with everything below it.
            model_name: Versions count up under it.
            tags: Of the version; they may change.
            properties: Of the version; they stay.
            description: Text for people.
            datasets: (purpose, dataset) pairs it was made with.
            model_framework: One of ``Model.Framework``.
            model_framework_version: Its version.
            child_paths: Only these files and folders of the folder ``model_path``.
            sample_input_dataset: A dataset of inputs.
            sample_output_dataset: A dataset of outputs.
            resource_configuration: What it needs to be served.

        Raises:
            ModelPathNotFoundException: nothing lies at ``model_path`` or a child path.
            UserErrorException: a value is wrong, or a file cannot be read.
        """
        sys.stdout.write("Registering model %s\n" % model_name)
        return register_from_files(
            workspace, model_path, child_paths, name=model_name, tags=tags, properties=properties,
            description=description, datasets=datasets, model_framework=model_framework,
            model_framework_version=model_framework_version, sample_input_dataset=sample_input_dataset,
            sample_output_dataset=sample_output_dataset, resource_configuration=resource_configuration,
        )  # fmt: skip

    @staticmethod
    def list(
        workspace: "Workspace", name: "Optional[str]" = None, tags: Any = None, properties: Any = None,
        run_id: "Optional[str]" = None, latest: bool = False, dataset_id: "Optional[str]" = None, expand: bool = True,
        page_count: int = 255, model_framework: "Optional[str]" = None,
    ) -> "List[Model]":  # fmt: skip
        """Models of the workspace that fit all that is given, newest version first.

        Args:
            workspace: Where they are kept.
            name: Only versions of this model.
            tags: Keys, [key, value] pairs, or a dictionary, that all must hold.
            properties: As ``tags``.
            run_id: Only those this run registered.
            latest: Of each name only the highest version that fits.
            dataset_id: Only those registered with this dataset.
            expand: v1's own; everything known is always there.
            page_count: v1's own; all come in one answer.
            model_framework: Only those of this framework.
        """
        answer = workspace._client.get(
            "/v1/models", name=name, run_id=run_id, dataset_id=dataset_id, framework=model_framework,
            tag=_filter("tags", tags), property=_filter("properties", properties), latest="true" if latest else None,
        )  # fmt: skip
        return [Model._of(workspace, data) for data in answer["models"]]

    @property
    def run(self) -> "Optional[Run]":
        """The run that made it."""
        from windlass.run import Run

        return Run.get(self.workspace, self.run_id) if self.run_id else None

    @property
    def experiment_name(self) -> "Optional[str]":
        """Experiment of the run that made it."""
        return self.run.experiment.name if self.run is not None else None

    @property
    def datasets(self) -> "Dict[str, List[Any]]":
        """The datasets it was registered with, by what they were used for."""
        found: "Dict[str, List[Any]]" = {}
        for entry in self._data.get("datasets") or ():
            found.setdefault(entry["name"], []).append(_dataset(self.workspace, entry["id"]))
        return found

    @property
    def sample_input_dataset(self) -> Any:
        """The dataset of sample inputs, or None."""
        return _dataset(self.workspace, self._data.get("sample_input"))

    @property
    def sample_output_dataset(self) -> Any:
        """The dataset of sample outputs, or None."""
        return _dataset(self.workspace, self._data.get("sample_output"))

    def update(
        self, tags: "Optional[Dict[str, str]]" = None, description: "Optional[str]" = None,
        sample_input_dataset: Any = None, sample_output_dataset: Any = None,
        resource_configuration: "Optional[ResourceConfiguration]" = None,
    ) -> None:  # fmt: skip
        """Change what is said of it; what is None stays. ``tags`` replace all it has."""
        changes: "Dict[str, Any]" = {}
        if tags is not None:
            changes["set_tags"] = _texts("tags", tags)
        if description is not None:
            changes["description"] = description
        if sample_input_dataset is not None:
            changes["sample_input"] = _dataset_id(sample_input_dataset)
        if sample_output_dataset is not None:
            changes["sample_output"] = _dataset_id(sample_output_dataset)
        if resource_configuration is not None:
            changes["resources"] = _resources(resource_configuration)
        self._patch(changes)

    def add_tags(self, tags: "Dict[str, str]") -> None:
        """Add tags; one it has gets the new value."""
        self._patch({"tags": _texts("tags", tags)})

    def remove_tags(self, tags: "Iterable[str]") -> None:
        """Remove tags by key."""
        self._patch({"remove_tags": [tags] if isinstance(tags, str) else [str(key) for key in tags]})

    def add_properties(self, properties: "Dict[str, str]") -> None:
        """Add properties, which never change.

        Raises:
            UserErrorException: it has one of them with another value.
        """
        self._patch({"properties": _texts("properties", properties)})

    def update_tags_properties(
        self, add_tags: "Optional[Dict[str, str]]" = None, remove_tags: "Optional[Iterable[str]]" = None,
        add_properties: "Optional[Dict[str, str]]" = None,
    ) -> None:  # fmt: skip
        """Remove tags, add tags and properties, all in one step."""
        self._patch({
            "tags": _texts("add_tags", add_tags), "properties": _texts("add_properties", add_properties),
            "remove_tags": [str(key) for key in remove_tags or ()],
        })  # fmt: skip

    def add_dataset_references(self, datasets: Any) -> None:
        """Note further datasets it was made with, as (purpose, dataset) pairs."""
        self._patch({"datasets": _references(datasets)})

    def _patch(self, changes: "Mapping[str, Any]") -> None:
        self._begin(self.workspace, self.workspace._client.patch(_address(self.name, self.version), changes))

    def delete(self) -> None:
        """Delete this version. Its number is not given again; contents that nothing else holds are freed."""
        self.workspace._client.delete(_address(self.name, self.version))

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
            fetch(self.workspace._client, _address(self.name, self.version) + "/files/", path, place)
        return target

    def _base_name(self) -> str:
        return os.path.basename((self._data.get("path") or "").rstrip("/")) or self.name

    def _places(self, target: str) -> "Iterable[Tuple[str, str]]":
        """(name on the server, place here) of each of the model's files."""
        paths = [file["path"] for file in self._data.get("files") or ()]
        base = self._base_name()
        if paths == [base]:
            return [(base, target)]
        under_base = all(path.startswith(base + "/") for path in paths)
        return [(path, inside(target, path[len(base) + 1 :] if under_base else path)) for path in paths]

    @staticmethod
    def get_model_path(
        model_name: str, version: "Optional[int]" = None, _workspace: "Optional[Workspace]" = None
    ) -> str:
        """Path of a model's file or folder on this machine; downloaded to ``azureml-models/`` when it is not here.

        In a scoring service (AZUREML_MODEL_DIR) the service's own copy; in a job the workspace's; elsewhere that of the
        workspace the nearest config.json names.

        Raises:
            ModelNotFoundException: there is no such model.
        """
        from windlass._model_files import model_path

        return model_path(model_name, version, _workspace)

    def serialize(self) -> "Dict[str, Any]":
        """What is known of it, under v1's keys."""
        return {
            "createdTime": self.created_time, "createdBy": self.created_by, "description": self.description,
            "id": self.id, "mimeType": self.mime_type, "name": self.name, "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version, "tags": self.tags, "properties": self.properties,
            "unpack": self.unpack, "url": self.url, "version": self.version, "experimentName": self.experiment_name,
            "runId": self.run_id, "runDetails": self.run.get_details() if self.run is not None else None,
            "datasets": [{"name": entry["name"], "id": entry["id"]} for entry in self._data.get("datasets") or ()],
            "resourceConfiguration": self.resource_configuration and self.resource_configuration.serialize(),
            "sampleInputDatasetId": self._data.get("sample_input"),
            "sampleOutputDatasetId": self._data.get("sample_output"),
        }  # fmt: skip

    @staticmethod
    def deserialize(workspace: "Workspace", model_payload: "Mapping[str, Any]") -> "Model":
        """The model that ``serialize`` made ``model_payload`` from, read afresh from the workspace."""
        try:
            return Model(workspace, id=model_payload["id"])
        except (KeyError, TypeError):
            raise UserErrorException(
                "model_payload=%r: give what model.serialize() returned." % (model_payload,)
            ) from None

    def __repr__(self) -> str:
        return "Model(workspace=%r, name=%r, id=%r, version=%d, tags=%r, properties=%r)" % (
            self.workspace.name, self.name, self.id, self.version, self.tags, self.properties,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        from windlass._details import html_table

        rows = {"Model": self.name, "Version": str(self.version), "Run": self.run_id or "", "SHA-256": self.sha256}
        return html_table(rows, "%s/models" % self.workspace._web)

    deploy = AbsentMethod(_SERVING)
    get_sas_urls = AbsentMethod("There are no addresses to share; use Model.download().")
    package = AbsentMethod(_SERVING)
    print_configuration = AbsentMethod(_SERVING)
    profile = AbsentMethod(_SERVING)


def described(
    *, name: Any, tags: Any = None, properties: Any = None, description: Any = None, datasets: Any = None,
    model_framework: Any = None, model_framework_version: Any = None, sample_input_dataset: Any = None,
    sample_output_dataset: Any = None, resource_configuration: Any = None,
) -> "Dict[str, Any]":  # fmt: skip
    """What a registration says of a model, checked, as ``POST /v1/models`` takes it."""
    import uuid

    if not isinstance(name, str) or not name:
        raise UserErrorException("model_name=%r must be text." % (name,))
    return {
        "name": name, "tags": _texts("tags", tags), "properties": _texts("properties", properties),
        "description": description, "framework": model_framework,
        "framework_version": None if model_framework_version is None else str(model_framework_version),
        "datasets": _references(datasets), "sample_input": _dataset_id(sample_input_dataset),
        "sample_output": _dataset_id(sample_output_dataset), "resources": _resources(resource_configuration),
        "created_by": _user(), "request_id": str(uuid.uuid4()),
    }  # fmt: skip


def register_from_files(
    workspace: "Workspace", model_path: str, child_paths: "Optional[Sequence[str]]" = None, **values: Any
) -> Model:
    """A new version made of a file or folder of this machine; ``values`` are those of ``described``."""
    from windlass._model_files import local_files
    from windlass._upload import keep, manifest, send

    body = described(**values)
    files = keep(workspace._client, local_files(model_path, child_paths))
    body.update(path=files[0].path.partition("/")[0], files=manifest(files))
    job = settings.job_context()
    if job is not None and job.workspace_dir == workspace._dir:
        body["run_id"] = job.run_id
    try:
        return Model._of(workspace, workspace._client.post("/v1/models", body))
    except UserErrorException as e:
        if e.error_code != _MISSING:
            raise
    send(workspace._client, files)  # a content was freed in between, with the last model that had it
    return Model._of(workspace, workspace._client.post("/v1/models", body))


def register_from_run(workspace: "Workspace", run_id: str, path: Any, **values: Any) -> Model:
    """A new version made of what the run keeps at ``path``; ``values`` are those of ``described``."""
    if not isinstance(path, str) or not path:
        raise UserErrorException("model_path=%r must be text." % (path,))
    path = path.replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    body = dict(described(**values), path=path, run_id=run_id)
    return Model._of(workspace, workspace._client.post("/v1/models", body))


def _first(
    workspace: "Workspace", name: str, version: "Optional[int]", run_id: "Optional[str]", tags: Any, properties: Any,
    framework: "Optional[str]",
) -> "Mapping[str, Any]":  # fmt: skip
    fits = [
        model._data
        for model in Model.list(workspace, name, tags, properties, run_id, model_framework=framework)
        if version is None or model.version == int(version)
    ]
    if fits:
        return max(fits, key=lambda data: int(data["version"]))
    known = Model.list(workspace, name)
    if known:
        raise ModelNotFoundException("No version of the model %r has what was asked for (it has versions %s)." % (
            name, ", ".join(str(model.version) for model in reversed(known))))  # fmt: skip
    return dict(workspace._client.get(_address(name, "latest")))  # raises, naming near matches


def _address(name: str, version: Any) -> str:
    return "/v1/models/%s/versions/%s" % (quote(name), version)


def _filter(argument: str, wanted: Any) -> "Optional[List[str]]":
    """v1's filter (a key, a list of keys and [key, value] pairs, a dictionary) as the wire has it."""
    if wanted is None:
        return None
    if isinstance(wanted, str):
        return [wanted]
    try:
        items = wanted.items() if isinstance(wanted, dict) else wanted
        return [item if isinstance(item, str) else "%s=%s" % (item[0], item[1]) for item in items]
    except (TypeError, IndexError):
        raise UserErrorException(
            "%s=%r: give keys and [key, value] pairs, such as ['stage', ['type', 'cnn']]." % (argument, wanted)
        ) from None


def _texts(argument: str, given: Any) -> "Dict[str, str]":
    if given is not None and not isinstance(given, dict):
        raise UserErrorException("%s must be a dictionary, not %r." % (argument, given))
    return {str(name): "" if value is None else str(value) for name, value in (given or {}).items()}


def _references(datasets: Any) -> "List[Dict[str, Any]]":
    if datasets is None:
        return []
    try:
        pairs = [(str(purpose), dataset) for purpose, dataset in datasets]
    except (TypeError, ValueError):
        raise UserErrorException(
            "datasets=%r: give (purpose, dataset) pairs, such as [(Dataset.Scenario.TRAINING, dataset)]." % (datasets,)
        ) from None
    return [{"name": purpose, "id": _dataset_id(dataset)} for purpose, dataset in pairs]


def _dataset_id(dataset: Any) -> "Optional[str]":
    if dataset is None:
        return None
    found = getattr(dataset, "id", None)
    if not isinstance(found, str) or not found:
        raise UserErrorException(
            "%r is no registered dataset. Register it: dataset.register(workspace, name)." % (dataset,)
        )
    return found


def _dataset(workspace: "Workspace", dataset_id: "Optional[str]") -> Any:
    if dataset_id is None:
        return None
    from windlass.abstract_dataset import AbstractDataset

    return AbstractDataset.get_by_id(workspace, dataset_id)


def _resources(configuration: Any) -> "Optional[Dict[str, Any]]":
    if configuration is None:
        return None
    if not isinstance(configuration, ResourceConfiguration):
        raise UserErrorException("resource_configuration=%r: give a ResourceConfiguration." % (configuration,))
    return configuration.serialize()


def _split_id(id: str) -> "Tuple[str, int]":
    name, colon, version = str(id).rpartition(":")
    if not colon or not version.isdigit():
        raise UserErrorException("id=%r is not a model's id such as 'digits:1'." % id)
    return name, int(version)


def _user() -> "Optional[str]":
    try:
        return getpass.getuser()
    except (KeyError, ImportError, OSError):  # a user id without a name
        return None
