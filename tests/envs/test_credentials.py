from __future__ import annotations

from pathlib import Path

import pytest

from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec
from windlassd.envs import registry
from windlassd.envs._credentials import (
    refuse_credentials,
    refuse_credentials_in_dockerfile,
    refuse_credentials_within,
)
from windlassd.envs.base import EnvironmentFailed

SECRET = "pat-of-mine"
GIVEN = [
    f"--extra-index-url https://me:{SECRET}@host/simple", f"--index-url=https://{SECRET}@host:8443/simple",
    f"-f http://:{SECRET}@host/wheels", f"a @ git+https://{SECRET}@host/a.git@v1", f"a @ git+ssh://git:{SECRET}@host/a",
    f"https://host/a.whl?sv=2020&sig={SECRET}", f"a @ https://host/a.whl?access_token={SECRET}#egg=a",
    f"a @ https://host/a.whl?X-Amz-Signature={SECRET}&x=1",
]  # fmt: skip


@pytest.mark.parametrize("entry", GIVEN)
def test_a_login_in_an_address_is_refused_with_the_way_out_and_not_shown(entry: str) -> None:
    with pytest.raises(EnvironmentFailed) as caught:
        refuse_credentials(entry)
    said = caught.value.message
    assert SECRET not in said and "****" in said
    assert "~/.netrc (a line 'machine host login" in said or "--find-links" in said


@pytest.mark.parametrize(
    "entry",
    ["numpy>=1,<2", "a @ git+ssh://git@github.com/x/a.git@v1", "--extra-index-url https://host/simple", "a[b]@ file:///x",
     "https://host/a@1.whl", "a==1 --hash=sha256:00", "torch @ https://host/torch-1.0%2Bcpu.whl#sha256=00"],
)  # fmt: skip
def test_other_entries_are_none_of_its_business(entry: str) -> None:
    refuse_credentials(entry)


@pytest.mark.parametrize("entry", GIVEN)
def test_a_definition_is_searched_whole_but_for_the_variables_of_the_script(entry: str) -> None:
    definition = {"python": {"condaDependencies": {"dependencies": ["python=3.9", {"pip": ["numpy", entry]}]}}}
    with pytest.raises(EnvironmentFailed):
        refuse_credentials_within(definition)
    refuse_credentials_within({"environmentVariables": {"DATABASE": f"postgresql://me:{SECRET}@host/db"}, "name": None})


LINES = [
    f"RUN pip install --index-url https://me:{SECRET}@host/simple alpha", f"  && git clone https://{SECRET}@host/a.git",
    f"ARG INDEX=https://${{USER}}:{SECRET}@host/simple", f"ADD https://host/data.zip?sig={SECRET} /data",
    f"RUN curl https://me:${{TOKEN:-{SECRET}}}@host/a",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("managed", [True, False])
def test_a_login_in_a_dockerfile_is_refused_when_it_is_used_and_when_it_is_registered(
    line: str, managed: bool, tmp_path: Path
) -> None:
    text = f"FROM debian:12\n{line}\n"
    asked = EnvironmentSpec(container=ContainerSpec(dockerfile=text), user_managed=managed)
    with pytest.raises(EnvironmentFailed, match=r"Dockerfile: .*\*\*\*\*.*conda_dependencies.*pip\.conf") as used:
        registry.builder_for(asked, str(tmp_path / "environments"))
    with pytest.raises(EnvironmentFailed, match=r"Dockerfile: .*\*\*\*\*") as registered:
        refuse_credentials_within({"docker": {"baseDockerfile": text}})
    assert SECRET not in used.value.message + registered.value.message


@pytest.mark.parametrize(
    "line",
    ["ENV PROXY=http://proxy:3128 MAIL=me@host", "RUN git clone https://$USER:${TOKEN}@host/a.git", "# see https://host/@me",
     "RUN git clone ssh://git@host/a.git", "FROM host:5000/base@sha256:00"],
)  # fmt: skip
def test_a_dockerfile_without_a_login_may_name_variables_and_addresses(line: str) -> None:
    refuse_credentials_in_dockerfile(f"FROM debian:12\n{line}\n")
