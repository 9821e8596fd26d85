"""Notice when Microsoft's azureml-core lies over ours: both want the import package ``azureml``."""

from __future__ import annotations

import os
import sys
import warnings

_THEIRS = "_base_sdk_common"  # a package that only Microsoft's wheel brings


def warn_of_microsoft() -> bool:
    """Warn, and return True, when Microsoft's azureml-core is in this environment."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    loaded = getattr(sys.modules.get("azureml"), "__path__", [])
    for folder in [os.path.join(ours, "azureml"), *loaded]:
        if os.path.isdir(os.path.join(folder, _THEIRS)):
            warnings.warn(
                "Microsoft's azureml-core is installed in the same environment (%s) and its files lie over those of "
                "Windlass, so `azureml` may be either's. Run `pip uninstall azureml-core`, then "
                "`pip install --force-reinstall windlass-sdk`." % folder,
                stacklevel=3,
            )
            return True
    return False
