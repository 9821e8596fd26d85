"""v1's ``azureml.pipeline``: not offered (SPEC section 15)."""

from __future__ import annotations

from azureml._absent import NotOfferedImport

raise NotOfferedImport("azureml.pipeline is not offered by Windlass. Submit the steps in turn from one script.")
