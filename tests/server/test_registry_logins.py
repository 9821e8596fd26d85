from __future__ import annotations

from pathlib import Path

import pytest

from windlass.errors import UserErrorException
from windlassd.testing.harness import Workspace


def test_logins_are_kept_and_told_without_their_passwords(home: Path) -> None:
    client = Workspace().client
    told = client.put("/v1/registry-logins", {"address": "lab:5000", "username": "ada", "password": "s3cret-word"})
    assert told == {"address": "lab:5000", "username": "ada"}
    client.put("/v1/registry-logins", {"address": "lab:5000", "username": "eve", "password": "s3cret-other"})
    assert client.get("/v1/registry-logins") == {"logins": [{"address": "lab:5000", "username": "eve"}]}

    holding = [path for path in home.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert [path.name for path in holding] == ["registry-logins.json"]
    assert holding[0].stat().st_mode & 0o077 == 0

    client.delete("/v1/registry-logins/lab:5000")
    assert client.get("/v1/registry-logins") == {"logins": []}
    with pytest.raises(UserErrorException, match="no login for the registry 'lab:5000'"):
        client.delete("/v1/registry-logins/lab:5000")
    for junk in ({}, {"address": "lab", "username": "ada"}, {"address": ["x"], "username": "a", "password": "b"}):
        with pytest.raises(UserErrorException):
            client.put("/v1/registry-logins", junk)
