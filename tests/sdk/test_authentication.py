"""v1's ways to sign in are taken and keep nothing; its telemetry switch switches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import azureml.core.authentication as v1
from azureml.telemetry import set_diagnostics_collection
from windlass import Workspace
from windlass.errors import NotOffered

_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("InteractiveLoginAuthentication", (), {"force": False, "tenant_id": "t"}),
    ("ServicePrincipalAuthentication", ("tenant", "id"), {"service_principal_password": "s3cret"}),
    ("MsiAuthentication", (), {"identity_config": {"client_id": "s3cret"}}),
    ("AzureCliAuthentication", (), {}),
    ("ArmTokenAuthentication", ("s3cret",), {}),
    ("TokenAuthentication", (lambda audience: "s3cret",), {}),
    ("AzureMLTokenAuthentication", ("s3cret",), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), _CALLS, ids=[call[0] for call in _CALLS])
def test_any_sign_in_opens_a_local_workspace(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], ws: Workspace, tmp_path: Path
) -> None:
    auth = getattr(v1, name)(*args, **kwargs)
    assert isinstance(auth, v1.AbstractAuthentication)
    assert "s3cret" not in repr(auth) and vars(auth) == {}
    (tmp_path / "config.json").write_text('{"subscription_id": "1", "resource_group": "g", "workspace_name": "ws"}')
    assert Workspace.from_config(str(tmp_path), auth=auth).name == "ws"
    assert Workspace.get("ws", auth=auth).name == Workspace("1", "g", "ws", auth=auth).name == "ws"
    with pytest.raises(NotOffered, match="without a token"):
        auth.get_authentication_header()


def test_v1s_telemetry_switch() -> None:
    set_diagnostics_collection(send_diagnostics=True)
    set_diagnostics_collection(False, verbosity=None, reason="none")
