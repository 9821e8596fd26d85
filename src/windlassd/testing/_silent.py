"""Parameters of v1 that are taken and change nothing here, each with the reason why that is no loss.

An option that is not honoured is refused; these are the exceptions, where nothing is asked for that Windlass could
fail to do. ``tests/sdk/test_surface.py`` finds parameters that no code reads and compares them with this table.
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_SIGN_IN = "A local workspace needs no sign-in."
_BY_NAME = "Workspaces of this machine are found by their name."
_LINES = "Quoted values may always span lines."
_WHOLE = "Every answer is whole."
_NO_RESOURCES = "There are no Azure resources to make."

SILENT: Mapping[str, str] = {
    "*.auth": _NO_SIGN_IN,
    "ComputeTarget.wait_for_completion.*": "There is nothing to wait for; AmlCompute has its own.",
    "CondaDependencies.create.pin_sdk_version": "Requirements on azureml-* are met by Windlass itself.",
    "Dataset.from_delimited_files.quoting": _LINES,
    "TabularDatasetFactory.from_delimited_files.support_multi_line": _LINES,
    "FileDatasetFactory.from_files.is_file": "What is a file is seen.",
    "OutputFileDatasetConfig.as_mount.disable_metadata_cache": "Nothing is cached: the folder is used in place.",
    "Model.__init__.expand": _WHOLE,
    "Model.list.expand": _WHOLE,
    "Model.list.page_count": _WHOLE,
    "Run.download_files.batch_size": "Files come one after the other over one connection.",
    "Run.get_context.used_for_context_manager": "v1's own code used it.",
    "Run.wait_for_completion.wait_post_processing": "A run is over only when everything is kept.",
    "_OfflineRun.__init__.parent_logger": "v1's own code used it.",
    "Workspace.create.create_resource_group": _NO_RESOURCES,
    "Workspace.create.private_endpoint_auto_approval": _NO_RESOURCES,
    "Workspace.create.show_output": "It takes no time.",
    "Workspace.delete.no_wait": "It takes no time.",
    "Workspace.get.subscription_id": _BY_NAME,
    "Workspace.get.resource_group": _BY_NAME,
    "Workspace.get.location": _BY_NAME,
    "Workspace.get.cloud": _BY_NAME,
    "Workspace.list.subscription_id": _BY_NAME,
    "Workspace.list.resource_group": _BY_NAME,
}
"""``Class.method.parameter``, where ``*`` stands for anything, to the reason."""
