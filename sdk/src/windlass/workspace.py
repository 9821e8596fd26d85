"""``Workspace``: where experiments, runs, compute targets and models are kept."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from windlass import _config_file, settings
from windlass._microsoft import warn_of_microsoft
from windlass._not_offered import AbsentMethod, AbsentProperty, refuse_options
from windlass._transport import places
from windlass.errors import UserErrorException, WorkspaceException

if TYPE_CHECKING:
    from windlass._transport.client import Client
    from windlass.abstract_dataset import AbstractDataset
    from windlass.compute import ComputeTarget
    from windlass.datastore import Datastore
    from windlass.environment import Environment
    from windlass.experiment import Experiment
    from windlass.model import Model
    from windlass.run import Run

_LOCAL = "local"
_AZURE_ONLY = "It is about Azure resources; leave it out."


class Workspace:
    """A workspace of this machine; v1's ``azureml.core.Workspace``.

    Making the object talks to no server; the first call that needs one starts it. A workspace that is not there yet
    is made on first use, with one line on stderr, so that an Azure configuration works as it is.

    Args:
        subscription_id: What Azure called it; kept and shown, nothing depends on it.
        resource_group: As ``subscription_id``.
        workspace_name: Names the local workspace under WINDLASS_HOME.
        auth: Accepted for v1's sake; a local workspace needs no sign-in.
        sku: Only v1's default.
        tags: Kept when the workspace is made by this call; see ``update``.
    """

    def __init__(
        self, subscription_id: "Optional[str]", resource_group: "Optional[str]", workspace_name: str, auth: Any = None,
        sku: str = "basic", tags: "Optional[Dict[str, str]]" = None,
    ) -> None:  # fmt: skip
        refuse_options("Workspace", {"sku": (sku, "basic", _AZURE_ONLY)})
        self._begin(places.workspace_dir(workspace_name))
        self._create_if_absent(subscription_id, resource_group, said={"tags": _texts(tags)} if tags else None)

    @classmethod
    def _at(cls, workspace_dir: str) -> "Workspace":
        """The workspace in a folder that exists."""
        workspace = cls.__new__(cls)
        workspace._begin(workspace_dir)
        return workspace

    def _begin(self, workspace_dir: str) -> None:
        warn_of_microsoft()
        self._dir = workspace_dir
        self._kept_client: "Optional[Client]" = None
        self._kept_details: "Optional[Mapping[str, Any]]" = None
        self._kept_web: "Optional[str]" = None

    def _create_if_absent(
        self, subscription_id: "Optional[str]", resource_group: "Optional[str]", location: "Optional[str]" = None,
        said: "Optional[Mapping[str, Any]]" = None,
    ) -> None:  # fmt: skip
        if os.path.isdir(self._dir):
            return
        azure = {"subscription_id": subscription_id, "resource_group": resource_group, "location": location}
        if any(azure.values()) or said:
            self._client.put("/v1/workspace", dict(azure, **(said or {})))
        else:
            self._client.get("/v1/workspace")
        sys.stderr.write("windlass: created the local workspace %r in %s\n" % (self.name, self._dir))

    @property
    def _client(self) -> "Client":
        if self._kept_client is None:
            from windlass._transport.client import Client  # HTTP is loaded only when somebody talks to the server

            self._kept_client = Client(self._dir)
        return self._kept_client

    @property
    def _web(self) -> str:
        """Address of the web pages, without a secret."""
        if self._kept_web is None:
            self._kept_web = str(self._client.get("/v1/server")["web"]).rstrip("/")
        return self._kept_web

    @staticmethod
    def from_config(path: "Optional[str]" = None, auth: Any = None) -> "Workspace":
        """The workspace that the nearest ``config.json`` names.

        Looked for in ``path`` (a file or folder), the current folder, their ``.azureml`` and ``aml_config``, then each
        parent; inside a job, where none is found, it is the job's workspace.

        Raises:
            UserErrorException: none is found, or the file is not what it should be.
        """
        config = _config_file.find(path)
        if config is not None:
            return Workspace(config.subscription_id, config.resource_group, config.name, auth)
        job = settings.job_context()
        if job is not None:
            return Workspace._at(job.workspace_dir)
        looked = _config_file.places(None if path is None else os.path.abspath(os.path.expanduser(path)))
        raise UserErrorException(
            "No workspace is configured here. Looked for:\n  %s\nRun `windlass init` in your project folder."
            % "\n  ".join(looked)
        )

    @staticmethod
    def get(
        name: str, auth: Any = None, subscription_id: "Optional[str]" = None, resource_group: "Optional[str]" = None,
        location: "Optional[str]" = None, cloud: str = "AzureCloud", id: "Optional[str]" = None,
    ) -> "Workspace":  # fmt: skip
        """The workspace of that name; the other arguments say where it would be in Azure and choose nothing here.

        Raises:
            WorkspaceException: there is none; the message names those there are.
        """
        refuse_options("Workspace.get", {"id": (id, None, "Give the name.")})
        if not os.path.isdir(places.workspace_dir(name)):
            known = places.workspaces()
            raise WorkspaceException(
                "There is no workspace %r under %s (there %s). Make it with Workspace.create(%r) or `windlass init %s`."
                % (name, settings.home(), "are: " + ", ".join(known) if known else "is none yet", name, name)
            )
        return Workspace._at(places.workspace_dir(name))

    @staticmethod
    def create(
        name: str, auth: Any = None, subscription_id: "Optional[str]" = None, resource_group: "Optional[str]" = None,
        location: "Optional[str]" = None, create_resource_group: bool = True, sku: str = "basic",
        tags: "Optional[Dict[str, str]]" = None, friendly_name: "Optional[str]" = None, storage_account: Any = None,
        key_vault: Any = None, app_insights: Any = None, container_registry: Any = None, adb_workspace: Any = None,
        primary_user_assigned_identity: Any = None, cmk_keyvault: Any = None, resource_cmk_uri: Any = None,
        hbi_workspace: bool = False, default_cpu_compute_target: Any = None, default_gpu_compute_target: Any = None,
        private_endpoint_config: Any = None, private_endpoint_auto_approval: bool = True, exist_ok: bool = False,
        show_output: bool = True, user_assigned_identity_for_cmk_encryption: Any = None,
        system_datastores_auth_mode: str = "accessKey", v1_legacy_mode: Any = None,
    ) -> "Workspace":  # fmt: skip
        """A new workspace of this machine.

        Raises:
            WorkspaceException: it exists and ``exist_ok`` is false.
            NotOffered: an option about Azure resources was given.
        """
        refuse_options("Workspace.create", {
            "sku": (sku, "basic", _AZURE_ONLY),
            "storage_account": (storage_account, None, _AZURE_ONLY), "key_vault": (key_vault, None, _AZURE_ONLY),
            "app_insights": (app_insights, None, _AZURE_ONLY),
            "container_registry": (container_registry, None, _AZURE_ONLY),
            "adb_workspace": (adb_workspace, None, _AZURE_ONLY),
            "primary_user_assigned_identity": (primary_user_assigned_identity, None, _AZURE_ONLY),
            "cmk_keyvault": (cmk_keyvault, None, _AZURE_ONLY),
            "resource_cmk_uri": (resource_cmk_uri, None, _AZURE_ONLY),
            "hbi_workspace": (hbi_workspace, False, _AZURE_ONLY),
            "default_cpu_compute_target": (default_cpu_compute_target, None, _AZURE_ONLY),
            "default_gpu_compute_target": (default_gpu_compute_target, None, _AZURE_ONLY),
            "private_endpoint_config": (private_endpoint_config, None, _AZURE_ONLY),
            "user_assigned_identity_for_cmk_encryption": (user_assigned_identity_for_cmk_encryption, None, _AZURE_ONLY),
            "system_datastores_auth_mode": (system_datastores_auth_mode, "accessKey", _AZURE_ONLY),
            "v1_legacy_mode": (v1_legacy_mode, None, _AZURE_ONLY),
        })  # fmt: skip
        workspace = Workspace._at(places.workspace_dir(name))
        if os.path.isdir(workspace._dir):
            if not exist_ok:
                raise WorkspaceException(
                    "The workspace %r exists in %s. Use Workspace.get(%r), or pass exist_ok=True."
                    % (name, workspace._dir, name)
                )
            return workspace
        said = {"friendly_name": friendly_name, "tags": _texts(tags) if tags else None}
        workspace._create_if_absent(subscription_id, resource_group, location, said if any(said.values()) else None)
        return workspace

    @staticmethod
    def list(
        subscription_id: "Optional[str]", auth: Any = None, resource_group: "Optional[str]" = None
    ) -> "Dict[str, List[Workspace]]":
        """All workspaces of this machine's home by name, whatever subscription they were made under."""
        return {name: [Workspace._at(places.workspace_dir(name))] for name in places.workspaces()}

    def write_config(self, path: "Optional[str]" = None, file_name: "Optional[str]" = None) -> None:
        """Write ``.azureml/config.json`` (or ``file_name``) into ``path`` or the current folder."""
        details = self._details
        values = {"workspace": self.name}
        if details.get("subscription_id") or details.get("resource_group"):
            values = {
                "subscription_id": self.subscription_id, "resource_group": self.resource_group,
                "workspace_name": self.name,
            }  # fmt: skip
        folder = os.path.abspath(os.path.expanduser(path or "."))
        _config_file.write(os.path.join(folder, ".azureml", file_name or _config_file.FILE_NAME), values)

    @property
    def _details(self) -> "Mapping[str, Any]":
        if self._kept_details is None:
            self._kept_details = self._client.get("/v1/workspace")
        return self._kept_details

    @property
    def name(self) -> str:
        """Name of the workspace."""
        return os.path.basename(self._dir)

    @property
    def subscription_id(self) -> str:
        """The Azure subscription its configuration named; ``local`` when none did."""
        return self._details.get("subscription_id") or _LOCAL

    @property
    def resource_group(self) -> str:
        """The Azure resource group its configuration named; ``local`` when none did."""
        return self._details.get("resource_group") or _LOCAL

    @property
    def location(self) -> str:
        """The Azure region its configuration named; ``local`` when none did."""
        return self._details.get("location") or _LOCAL

    @property
    def sku(self) -> str:
        """v1's edition; always ``basic``."""
        return "basic"

    def get_details(self) -> "Dict[str, Any]":
        """What is known of the workspace, under v1's keys, and its folder."""
        from windlass._details import iso_time

        self._kept_details = None  # others may have changed it
        return {
            "id": "/subscriptions/%s/resourceGroups/%s/workspaces/%s" % (
                self.subscription_id, self.resource_group, self.name),
            "name": self.name, "location": self.location, "type": "windlass", "tags": self.tags, "sku": self.sku,
            "workspaceid": self.name, "description": self._details.get("description"),
            "friendlyName": self._details.get("friendly_name") or self.name,
            "creationTime": iso_time(self._details.get("created")), "containerRegistry": None, "keyVault": None,
            "applicationInsights": None, "storageAccount": None, "hbiWorkspace": False,
            "provisioningState": "Succeeded", "discoveryUrl": self.discovery_url, "folder": self._dir,
        }  # fmt: skip

    @property
    def tags(self) -> "Dict[str, str]":
        """Its tags."""
        return dict(self._details.get("tags") or {})

    @property
    def discovery_url(self) -> str:
        """v1's address of the service; here that of the workspace's web page."""
        return self._web

    def update(
        self, friendly_name: "Optional[str]" = None, description: "Optional[str]" = None,
        tags: "Optional[Dict[str, str]]" = None, image_build_compute: "Optional[str]" = None,
        service_managed_resources_settings: Any = None, primary_user_assigned_identity: "Optional[str]" = None,
        allow_public_access_when_behind_vnet: "Optional[bool]" = None, v1_legacy_mode: "Optional[bool]" = None,
    ) -> "Dict[str, Any]":  # fmt: skip
        """Change what is said of the workspace; what is None stays. ``tags`` replace all it has.

        Raises:
            NotOffered: an option about Azure resources was given.
        """
        refuse_options("Workspace.update", {
            "image_build_compute": (image_build_compute, None, "The server builds environments; leave it out."),
            "service_managed_resources_settings": (service_managed_resources_settings, None, _AZURE_ONLY),
            "primary_user_assigned_identity": (primary_user_assigned_identity, None, _AZURE_ONLY),
            "allow_public_access_when_behind_vnet": (allow_public_access_when_behind_vnet, None, _AZURE_ONLY),
            "v1_legacy_mode": (v1_legacy_mode, None, _AZURE_ONLY),
        })  # fmt: skip
        said = {"friendly_name": friendly_name, "description": description}
        self._client.put("/v1/workspace", dict(said, tags=None if tags is None else _texts(tags)))
        return self.get_details()

    def delete(self, delete_dependent_resources: bool = False, no_wait: bool = False) -> None:
        """Delete the workspace: its records are gone for everybody; its server is stopped.

        Args:
            delete_dependent_resources: True removes its folder with all runs, models and data. Otherwise the folder is
                moved to ``deleted/`` of the home, and one line on stderr says where.
            no_wait: v1's own; it is over when the call returns.

        Raises:
            UserErrorException: runs have not ended.
        """
        from windlass._workspace_end import end

        end(self._client, self._dir, remove=delete_dependent_resources)
        self._kept_client = None

    def get_run(self, run_id: str) -> "Run":
        """The run of that id.

        Raises:
            UserErrorException: there is none.
        """
        from windlass.run import Run

        return Run.get(self, run_id)

    @property
    def compute_targets(self) -> "Dict[str, ComputeTarget]":
        """Compute targets by name."""
        from windlass.compute import ComputeTarget

        return {target.name: target for target in ComputeTarget.list(self)}

    @property
    def experiments(self) -> "Dict[str, Experiment]":
        """Experiments by name, but for archived ones."""
        from windlass.experiment import Experiment

        return {experiment.name: experiment for experiment in Experiment.list(self)}

    @property
    def models(self) -> "Dict[str, Model]":
        """The latest version of each model by name."""
        from windlass.model import Model

        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def datastores(self) -> "Dict[str, Datastore]":
        """Datastores by name."""
        from windlass.datastore import all_datastores

        return all_datastores(self)

    def get_default_datastore(self) -> "Datastore":
        """The default datastore, ``workspaceblobstore`` unless another was set."""
        from windlass.datastore import Datastore

        return Datastore.get_default(self)

    def set_default_datastore(self, name: str) -> None:
        """Make the datastore of that name the default."""
        self._client.put("/v1/default-datastore", {"name": name})

    @property
    def datasets(self) -> "Dict[str, AbstractDataset]":
        """The latest version of each registered dataset by name."""
        from windlass.abstract_dataset import AbstractDataset

        return AbstractDataset.get_all(self)

    @property
    def environments(self) -> "Dict[str, Environment]":
        """The newest version of each registered environment by name."""
        from windlass.environment import Environment

        return Environment.list(self)

    def __repr__(self) -> str:
        return "Workspace(name=%r, folder=%r)" % (self.name, self._dir)

    def _repr_html_(self) -> str:
        from windlass._details import html_table

        return html_table({"Workspace": self.name, "Folder": self._dir})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Workspace) and other._dir == self._dir

    def __hash__(self) -> int:
        return hash(self._dir)

    images = AbsentProperty("Container images are built and cached by themselves.")
    webservices = AbsentProperty("Use the model's files: Model.download().")
    delete_connection = AbsentMethod(_AZURE_ONLY)
    get_connection = AbsentMethod(_AZURE_ONLY)
    get_default_compute_target = AbsentMethod("Use ws.compute_targets[name].")
    get_default_keyvault = AbsentMethod("Pass secrets in environment_variables.")
    get_mlflow_tracking_uri = AbsentMethod("Log with Run.get_context().log(name, value).")
    list_connections = AbsentMethod(_AZURE_ONLY)
    list_keys = AbsentMethod(_AZURE_ONLY)
    set_connection = AbsentMethod(_AZURE_ONLY)


def _texts(tags: Any) -> "Dict[str, str]":
    if not isinstance(tags, dict):
        raise UserErrorException("tags must be a dictionary such as {'team': 'vision'}, not %r." % (tags,))
    return {str(key): "" if value is None else str(value) for key, value in tags.items()}
