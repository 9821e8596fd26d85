"""``Datastore``: a named folder of data; v1's ``azureml.core.Datastore``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence

from windlass import _transfer
from windlass._not_offered import AbsentProperty
from windlass._remote_datastores import RemoteRegistrations
from windlass._transport.client import quote
from windlass.data_reference import DataReference, store_path
from windlass.errors import UserErrorException
from windlass.specs.data import DataSpec

if TYPE_CHECKING:
    from windlass.workspace import Workspace

_NO_AZURE = "This datastore is a folder: ds.root."


class AbstractDatastore:
    """What all datastores have; v1's ``azureml.data.abstract_datastore.AbstractDatastore``."""

    def __init__(self, workspace: "Workspace", name: str, datastore_type: str) -> None:
        self._workspace = workspace
        self._name = name
        self._type = datastore_type

    @property
    def workspace(self) -> "Workspace":
        """The workspace it belongs to."""
        return self._workspace

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def datastore_type(self) -> str:
        """``Local``: a folder of this machine."""
        return self._type

    def set_as_default(self) -> None:
        """Make it the workspace's default datastore."""
        self._workspace.set_default_datastore(self._name)

    def unregister(self) -> None:
        """Forget it; its files stay where they are.

        Raises:
            UserErrorException: it is one of the workspace's own.
        """
        self._workspace._client.delete("/v1/datastores/%s" % quote(self._name))

    def __repr__(self) -> str:
        return "%s(name=%r, workspace=%r)" % (type(self).__name__, self._name, self._workspace.name)


class Datastore(AbstractDatastore, RemoteRegistrations):
    """A folder of this machine under a name. Among a job's arguments it is the path of the folder, used in place.

    Args:
        workspace: Where it is known.
        name: Its name; None is the default datastore.

    Raises:
        UserErrorException: there is none of that name.
    """

    def __init__(self, workspace: "Workspace", name: "Optional[str]" = None) -> None:
        self._begin(workspace, _fetch(workspace, name))

    @classmethod
    def _of(cls, workspace: "Workspace", data: "Mapping[str, Any]") -> "Datastore":
        store = cls.__new__(cls)
        store._begin(workspace, data)
        return store

    def _begin(self, workspace: "Workspace", data: "Mapping[str, Any]") -> None:
        super().__init__(workspace, data["name"], "Local")
        self.root: str = data["path"]
        """The folder."""

    @staticmethod
    def get(workspace: "Workspace", datastore_name: str) -> Datastore:
        """The datastore of that name.

        Raises:
            UserErrorException: there is none; the message names those there are.
        """
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: "Workspace") -> Datastore:
        """The workspace's default datastore, ``workspaceblobstore`` unless another was set."""
        return Datastore(workspace)

    @staticmethod
    def register_local(
        workspace: "Workspace", datastore_name: str, path: str, overwrite: bool = False,
        create_if_not_exists: bool = False,
    ) -> Datastore:  # fmt: skip
        """Make a folder of this machine a datastore. Windlass's own: v1 had none.

        Args:
            workspace: Where it is known.
            datastore_name: Letters, digits and ``_``.
            path: The folder. Its files are used where they lie.
            overwrite: Change the datastore of that name.
            create_if_not_exists: Make the folder when it is absent.

        Raises:
            UserErrorException: the name is taken, or there is no such folder.
        """
        body = {
            "path": os.path.abspath(os.path.expanduser(path)), "overwrite": overwrite, "create": create_if_not_exists,
        }  # fmt: skip
        made = workspace._client.put("/v1/datastores/%s" % quote(datastore_name), body)
        return Datastore._of(workspace, made)

    def upload(
        self, src_dir: str, target_path: "Optional[str]" = None, overwrite: bool = False, show_progress: bool = True
    ) -> DataReference:
        """Copy all files of a folder to the datastore, under their paths below it.

        Args:
            src_dir: The folder.
            target_path: A folder of the datastore; None is its root.
            overwrite: Replace files that are there already; without it they are left as they are, so that a call
                that was broken off can be repeated.
            show_progress: Print a line for each file.

        Raises:
            UserErrorException: there is no such folder.
        """
        target = store_path(target_path or "")
        _transfer.upload(self, _transfer.files_below(src_dir), target, overwrite, show_progress)
        return self.path(target or None)

    def upload_files(
        self, files: "Sequence[str]", relative_root: "Optional[str]" = None, target_path: "Optional[str]" = None,
        overwrite: bool = False, show_progress: bool = True,
    ) -> DataReference:  # fmt: skip
        """Copy files to the datastore, under their paths below ``relative_root`` (default: their common folder).

        Raises:
            UserErrorException: a file is not there, or not below ``relative_root``.
        """
        target = store_path(target_path or "")
        chosen = _transfer.chosen_files(files, relative_root)
        _transfer.upload(self, chosen, target, overwrite, show_progress)
        return self.path(target or None)

    def download(
        self, target_path: str, prefix: "Optional[str]" = None, overwrite: bool = False, show_progress: bool = True
    ) -> int:
        """Copy files of the datastore to a folder of this machine; returns how many were copied.

        Args:
            target_path: The folder; it is made when absent.
            prefix: Only files whose paths begin with it; None is all.
            overwrite: Replace files that are there already; without it they are left as they are.
            show_progress: Print a line for each file.
        """
        return _transfer.download(self, target_path, store_path(prefix or ""), overwrite, show_progress)

    def path(self, path: "Optional[str]" = None, data_reference_name: "Optional[str]" = None) -> DataReference:
        """A reference to a file or folder of the datastore, for a job."""
        return DataReference(self, data_reference_name, path)

    def as_mount(self) -> DataReference:
        """All of it for a job, used in place."""
        return self.path().as_mount()

    def as_download(self, path_on_compute: "Optional[str]" = None) -> DataReference:
        """All of it for a job, copied before the script starts."""
        return self.path().as_download(path_on_compute)

    def as_upload(self, path_on_compute: "Optional[str]" = None) -> DataReference:
        """For a job: what its script writes to ``path_on_compute`` is copied to the datastore."""
        return self.path().as_upload(path_on_compute)

    def _files(self, prefix: str = "") -> "List[Dict[str, Any]]":
        address = "/v1/datastores/%s/files" % quote(self._name)
        return list(self._workspace._client.get(address, prefix=prefix or None)["files"])

    def _argument(self) -> str:
        return self.as_mount()._argument()

    def _data(self) -> DataSpec:
        return self.as_mount()._data()

    container_name = AbsentProperty(_NO_AZURE)
    account_name = AbsentProperty(_NO_AZURE)
    account_key = AbsentProperty(_NO_AZURE)
    sas_token = AbsentProperty(_NO_AZURE)
    is_sas = AbsentProperty(_NO_AZURE)
    credential_type = AbsentProperty(_NO_AZURE)
    protocol = AbsentProperty(_NO_AZURE)
    endpoint = AbsentProperty(_NO_AZURE)
    blob_service = AbsentProperty(_NO_AZURE)
    file_service = AbsentProperty(_NO_AZURE)
    workspace_msi_has_access = AbsentProperty(_NO_AZURE)
    service_data_access_auth_identity = AbsentProperty(_NO_AZURE)
    subscription_id = AbsentProperty(_NO_AZURE)
    resource_group = AbsentProperty(_NO_AZURE)


def all_datastores(workspace: "Workspace") -> "Dict[str, Datastore]":
    """The workspace's datastores by name."""
    found = workspace._client.get("/v1/datastores")["datastores"]
    return {data["name"]: Datastore._of(workspace, data) for data in found}


def _fetch(workspace: "Workspace", name: "Optional[str]") -> "Mapping[str, Any]":
    if name is None:
        name = workspace._client.get("/v1/datastores")["default"]
    if not isinstance(name, str) or not name:
        raise UserErrorException("%r is no name of a datastore." % (name,))
    found: "Mapping[str, Any]" = workspace._client.get("/v1/datastores/%s" % quote(name))
    return found


AbstractAzureStorageDatastore = AzureBlobDatastore = AzureFileDatastore = Datastore
"""v1's classes by kind of storage: here one class stands for every datastore."""
