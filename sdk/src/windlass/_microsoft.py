"""Notice when Microsoft's azureml-core is in the same environment: both want the import package ``azureml``."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Iterator, Optional

_THEIRS = "_base_sdk_common"  # a package that only Microsoft's wheel brings
_DIST_INFO = ("azureml_core-", ".dist-info")


def warn_of_microsoft() -> bool:
    """Warn, and return True, when Microsoft's azureml-core is in this environment."""
    found = find_microsoft()
    if found is None:
        return False
    warnings.warn(
        "Microsoft's azureml-core is installed in the same environment (%s). Its files may lie over those of Windlass, "
        "so `azureml` may be either's. Run `pip uninstall azureml-core`, then "
        "`pip install --force-reinstall windlass-sdk`." % found,
        stacklevel=3,
    )
    return True


def find_microsoft() -> "Optional[str]":
    """Where Microsoft's azureml-core lies in this environment, or None."""
    return _files_over_ours() or _installed()


def _files_over_ours() -> "Optional[str]":
    """The folder of ``azureml`` that holds files of theirs."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    loaded = getattr(sys.modules.get("azureml"), "__path__", [])
    folders = [os.path.join(ours, "azureml"), *loaded]
    return next((folder for folder in folders if os.path.isdir(os.path.join(folder, _THEIRS))), None)


def _installed() -> "Optional[str]":
    """The folder in which pip noted that azureml-core is installed, though ``azureml`` may come from elsewhere."""
    return next(_dist_infos(), None)


def _dist_infos() -> "Iterator[str]":
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue  # a zip file, or a folder that is not there
        for name in names:
            path = os.path.join(folder, name)
            if name.startswith(_DIST_INFO[0]) and name.endswith(_DIST_INFO[1]) and not _is_ours(path):
                yield path


def _is_ours(dist_info: str) -> bool:
    """True for the metadata that a job gets from us, so that packages that ask for azureml-core find it."""
    try:
        with open(os.path.join(dist_info, "INSTALLER"), encoding="ascii", errors="replace") as f:
            return f.read().strip() == "windlass"
    except OSError:
        return False
