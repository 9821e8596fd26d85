"""Arguments of ``docker run`` in lists of v1."""

from __future__ import annotations

import re

import pytest

from windlass._docker_arguments import _OPTIONS, _SAME, _SHORT, TAKEN, UnknownOption, parse, size_bytes
from windlass.errors import UserErrorException
from windlass.specs.container import ContainerOptions


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (["--shm-size=4g"], {"shm_bytes": 4 << 30}),
        (["--shm-size", "512m"], {"shm_bytes": 512 << 20}),
        (["--shm-size 4g"], {"shm_bytes": 4 << 30}),
        (["-m", "1.5GB", "--cpus=2"], {"memory_bytes": 3 << 29, "cpus": 2.0}),
        (["-m1g"], {"memory_bytes": 1 << 30}),
        (["--memory=1073741824"], {"memory_bytes": 1 << 30}),
        (["--gpus", "all"], {"gpus": "all"}),
        (["--gpus", '"device=0,1"'], {"gpus": "0,1"}),
        (["-v", "/data:/data:ro", "--volume=/a b:/c:rw"], {"volumes": ("/data:/data:ro", "/a b:/c")}),
        (["--ulimit", "memlock=-1:-1", "--ulimit=nofile=1024"], {"ulimits": ("memlock=-1:-1", "nofile=1024")}),
        (["--ipc=host", "--init", "--rm"], {"host_ipc": True}),
        (["--net=none"], {"network": "none"}),
        (["--network", "host"], {}),
        ("--cpus 1 -m 2g", {"cpus": 1.0, "memory_bytes": 2 << 30}),
        (None, {}),
    ],
)
def test_each_form_is_read(given: object, options: dict[str, object]) -> None:
    found = parse("docker.arguments", given)
    assert found.options == ContainerOptions(**options) and found.variables == {}  # type: ignore[arg-type]


def test_variables_are_the_jobs_and_later_lists_win() -> None:
    before = parse("docker.arguments", ["-e", "A=1", "--env=B=x=y", "-eC=d e"])
    found = parse("docker.arguments", ["-e A=2", "--cpus=1", "--cpus=2"], before)
    assert found.variables == {"A": "2", "B": "x=y", "C": "d e"} and found.options.cpus == 2.0


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        (["-p", "8787:8787"], UnknownOption, "'-p'$"),
        (["--memori=2g"], UnknownOption, r"'--memori=2g' \(Did you mean '--memory'"),
        (["--privileged"], UnknownOption, "'--privileged'"),
        (["2g"], UnknownOption, "'2g'"),
        (["--memory"], UserErrorException, "--memory lacks its value"),
        (["--memory=lots"], UserErrorException, r"docker\.arguments --memory='lots' is no size.*'2g'"),
        (["--memory=1m"], UserErrorException, "at least 6m"),
        (["--shm-size=0"], UserErrorException, "is no size"),
        (["--cpus=two"], UserErrorException, "no number of cores"),
        (["--gpus=2"], UserErrorException, "must be 'all' or name devices"),
        (["-v", "name:/data"], UserErrorException, "'/on/host:/in/container'"),
        (["-v", "/a:/b:z"], UserErrorException, "'/on/host:/in/container'"),
        (["-e", "HOME"], UserErrorException, "must be NAME=VALUE"),
        (["--ulimit=memlock"], UserErrorException, "name=soft"),
        (["--ipc=private"], UserErrorException, "must be 'host'"),
        (["--network=mine"], UserErrorException, "'bridge' or 'none'"),
        ([7], UserErrorException, "must be a list of text"),
        (7, UserErrorException, "must be a list of text"),
    ],
)
def test_what_cannot_be_honoured_is_named(given: object, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        parse("docker.arguments", given)


def test_the_list_in_the_message_is_whole() -> None:
    assert set(re.findall(r"--?[a-z-]+", TAKEN)) == {*_OPTIONS, *_SHORT, *_SAME, "--init", "--rm"}


@pytest.mark.parametrize(("text", "size"), [("2g", 2 << 30), ("1.5 k", 1536), ("7", 7), ("3MiB", 3 << 20), (9, 9)])
def test_sizes(text: object, size: int) -> None:
    assert size_bytes("shm_size", text) == size
