"""v1's registrations of datastores in Azure and databases: none is offered yet, and each says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from windlass._not_offered import not_offered

if TYPE_CHECKING:
    from windlass.workspace import Workspace

_LATER = (
    "It comes with a later release. Until then download the data and use ds.upload(), or mount it on this machine and "
    "use Datastore.register_local(ws, name, path)."
)
_FILES = "Export the data to files and upload them to a datastore."


class RemoteRegistrations:
    """The half of ``Datastore`` that is about stores elsewhere."""

    @staticmethod
    def register_azure_blob_container(
        workspace: "Workspace", datastore_name: str, container_name: str, account_name: str, sas_token: Any = None,
        account_key: Any = None, protocol: Any = None, endpoint: Any = None, overwrite: bool = False,
        create_if_not_exists: bool = False, skip_validation: bool = False, blob_cache_timeout: Any = None,
        grant_workspace_access: bool = False, subscription_id: Any = None, resource_group: Any = None,
    ) -> NoReturn:  # fmt: skip
        """Not offered yet."""
        raise not_offered("Datastore.register_azure_blob_container()", _LATER)

    @staticmethod
    def register_azure_file_share(
        workspace: "Workspace", datastore_name: str, file_share_name: str, account_name: str, sas_token: Any = None,
        account_key: Any = None, protocol: Any = None, endpoint: Any = None, overwrite: bool = False,
        create_if_not_exists: bool = False, skip_validation: bool = False,
    ) -> NoReturn:  # fmt: skip
        """Not offered: mount the share on this machine."""
        raise not_offered(
            "Datastore.register_azure_file_share()",
            "Mount the share on this machine and use Datastore.register_local(ws, name, path).",
        )

    @staticmethod
    def register_azure_data_lake(
        workspace: "Workspace", datastore_name: str, store_name: str, tenant_id: Any = None, client_id: Any = None,
        client_secret: Any = None, resource_url: Any = None, authority_url: Any = None, subscription_id: Any = None,
        resource_group: Any = None, overwrite: bool = False, grant_workspace_access: bool = False,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Datastore.register_azure_data_lake()", _FILES)

    @staticmethod
    def register_azure_data_lake_gen2(
        workspace: "Workspace", datastore_name: str, filesystem: str, account_name: str, tenant_id: Any = None,
        client_id: Any = None, client_secret: Any = None, resource_url: Any = None, authority_url: Any = None,
        protocol: Any = None, endpoint: Any = None, overwrite: bool = False, subscription_id: Any = None,
        resource_group: Any = None, grant_workspace_access: bool = False,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Datastore.register_azure_data_lake_gen2()", _LATER)

    @staticmethod
    def register_azure_my_sql(
        workspace: "Workspace", datastore_name: str, server_name: str, database_name: str, user_id: str,
        user_password: str, port_number: Any = None, endpoint: Any = None, overwrite: bool = False, **kwargs: Any,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Datastore.register_azure_my_sql()", _FILES)

    @staticmethod
    def register_azure_postgre_sql(
        workspace: "Workspace", datastore_name: str, server_name: str, database_name: str, user_id: str,
        user_password: str, port_number: Any = None, endpoint: Any = None, overwrite: bool = False,
        enforce_ssl: bool = True, **kwargs: Any,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Datastore.register_azure_postgre_sql()", _FILES)

    @staticmethod
    def register_azure_sql_database(
        workspace: "Workspace", datastore_name: str, server_name: str, database_name: str, tenant_id: Any = None,
        client_id: Any = None, client_secret: Any = None, resource_url: Any = None, authority_url: Any = None,
        endpoint: Any = None, overwrite: bool = False, username: Any = None, password: Any = None,
        subscription_id: Any = None, resource_group: Any = None, grant_workspace_access: bool = False, **kwargs: Any,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Datastore.register_azure_sql_database()", _FILES)

    @staticmethod
    def register_dbfs(workspace: "Workspace", datastore_name: str) -> NoReturn:
        """Not offered."""
        raise not_offered("Datastore.register_dbfs()", _FILES)

    @staticmethod
    def register_hdfs(
        workspace: "Workspace", datastore_name: str, protocol: str, namenode_address: str,
        hdfs_server_certificate: Any, kerberos_realm: str, kerberos_kdc_address: str, kerberos_principal: str,
        kerberos_keytab: Any = None, kerberos_password: Any = None, overwrite: bool = False,
    ) -> NoReturn:  # fmt: skip
        """Not offered."""
        raise not_offered("Datastore.register_hdfs()", _FILES)
