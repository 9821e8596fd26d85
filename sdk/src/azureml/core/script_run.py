"""v1's ``azureml.core.script_run``; nothing of it is offered yet."""

from __future__ import annotations

from azureml._absent import absent_names

__getattr__ = absent_names(__name__)
