from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from windlass.specs.environment import EnvironmentSpec
from windlassd.envs._conda_resolve import ChannelResolver, PrefixLock
from windlassd.envs._conda_solve import Rattler
from windlassd.envs._requirements import wanted
from windlassd.testing.builder_suite import quiet
from windlassd.testing.conda_channel import CondaChannel

if TYPE_CHECKING:
    from envs.conftest import Wheelhouse


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of conda's."""
    for name in [name for name in os.environ if name.startswith("CONDA")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


def names(found: PrefixLock) -> set[str]:
    return {Path(line.split(" ")[0]).name.partition("-0.tar")[0] for line in found.lines}


@pytest.mark.packages
def test_the_c_library_where_it_will_run_decides_and_not_this_machines(tmp_path: Path, wheels: Wheelhouse) -> None:
    channel = CondaChannel(tmp_path / "channel")
    channel.add("python", "3.11.5")
    channel.add("nativelib", "1.0", depends=["__glibc >=2.17"])
    channel.add("nativelib", "2.0", depends=["__glibc >=2.30"])
    channel.publish()
    wheels.add("tiny", "1.0")
    wheels.add("tiny", "2.0")
    new = next(wheels.folder.glob("tiny-2*"))
    machine = os.uname().machine
    new.rename(new.with_name(new.name.replace("none-any", f"none-manylinux_2_30_{machine}")))
    spec = EnvironmentSpec(
        conda_packages=(f"{channel.address}::nativelib",), pip_packages=("tiny",), channels=(channel.address,)
    )

    def locked(glibc: str) -> set[str]:
        resolver = ChannelResolver(spec, Rattler(str(tmp_path / "cache")), quiet(), lambda: glibc)
        return names(resolver.prefix(wanted(spec)))

    assert locked("2.28") == {"python-3.11.5", "nativelib-1.0", "tiny==1.0"}
    assert locked("2.35.1") == {"python-3.11.5", "nativelib-2.0", "tiny==2.0"}
