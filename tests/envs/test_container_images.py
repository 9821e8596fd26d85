from __future__ import annotations

import pytest

from windlassd.envs._container_images import Name
from windlassd.envs.base import EnvironmentFailed


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "host"),
    [
        ("ubuntu", None, "ubuntu", "latest", "docker.io"),
        ("microsoft/mmlspark:0.12", None, "microsoft/mmlspark", "0.12", "docker.io"),
        ("lab:5000/a/b", None, "lab:5000/a/b", "latest", "lab:5000"),
        ("lab:5000/a/b:c", "lab:5000", "lab:5000/a/b", "c", "lab:5000"),
        ("a/b:c", "https://lab:5000/", "lab:5000/a/b", "c", "lab:5000"),
        ("env:1", "lab:5000/windlass", "lab:5000/windlass/env", "1", "lab:5000"),
        ("localhost/x:1", None, "localhost/x", "1", "localhost"),
        ("a/b@sha256:12", None, "a/b", "sha256:12", "docker.io"),
    ],
)
def test_names_are_read_as_docker_reads_them(
    text: str, registry: str | None, repository: str, tag: str, host: str
) -> None:
    name = Name.read(text, registry)
    assert (name.repository, name.tag, name.registry) == (repository, tag, host)


def test_a_name_is_written_as_it_is_pulled() -> None:
    assert str(Name.read("a/b")) == "a/b:latest"
    assert str(Name.read("a/b@sha256:12")) == "a/b@sha256:12"


@pytest.mark.parametrize("text", ["", " ", "a b", "-x", "/x", "a;b", "a\nb"])
def test_junk_is_refused(text: str) -> None:
    with pytest.raises(EnvironmentFailed, match="is no name of an image"):
        Name.read(text)
