"""v1's import paths, re-exported from ``windlass``."""

from __future__ import annotations

import sys

from azureml._absent import AbsentModules

if AbsentModules not in sys.meta_path:
    sys.meta_path.append(AbsentModules)  # last: asked only for what nobody has
