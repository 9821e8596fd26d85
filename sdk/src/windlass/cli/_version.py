"""``windlass version``."""

from __future__ import annotations

from windlass.cli._options import AsJson
from windlass.cli._show import as_json, result


def version(json: AsJson = False) -> None:
    """Print the version."""
    import windlass

    if json:
        as_json({"version": windlass.__version__, "azureml": windlass.VERSION})
    else:
        result("windlass %s" % windlass.__version__)
