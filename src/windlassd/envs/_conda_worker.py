"""The program that asks rattler: to solve, to look for names, to install. One order in as JSON, one answer out.

It runs in a process of its own, so that a stop, a timeout or the death of the server ends it like any other build.
Its order lies in the file that its only argument names; its answer goes to standard output; what it is at goes to
standard error, a line each.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import os
import re
import sys
import urllib.parse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rattler
from rattler.channel import ChannelPriority
from rattler.config import Config
from rattler.exceptions import (
    FetchRepoDataError,
    GatewayError,
    InstallerError,
    InvalidChannelError,
    InvalidMatchSpecError,
    InvalidUrlError,
    IoError,
    LinkError,
    SolverError,
)
from rattler.networking import Client
from rattler.package import BuildString
from rattler.package_cache import PackageCache, ValidationMode
from rattler.virtual_package import VirtualPackageOverrides

Order = Mapping[str, Any]
Answer = Mapping[str, Any]

_OTHER_SUBDIRS = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64")
_OLDEST_MINOR = 7
_KERNEL = "4.18"
"""Of the oldest distributions that are still looked after."""
_ABSENT = re.compile(r"No candidates were found for ([A-Za-z0-9_.-]+)|"
                     r"─ ([A-Za-z0-9_.-]+)[^\n]*, for which no candidates were found")  # fmt: skip
_AZUREML = re.compile(r"─ (azureml[a-z0-9_.-]*)([^\n]*?), for which no candidates were found")
_MOST_ROUNDS = 10


class _Failed(Exception):
    """An answer that is a failure."""

    def __init__(self, kind: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.answer = {"failed": {"kind": kind, "text": text, **more}}


class _Asker:
    """Channels and how to reach them, for one order."""

    def __init__(self, order: Order) -> None:
        cache = Path(order["cache"])
        config = Config.from_toml(_toml(order))
        self.client = Client.from_config(config, user_agent="windlass")
        self.gateway = rattler.Gateway.from_config(config, cache_dir=cache / "repodata", client=self.client)
        self.channels = [_channel(text) for text in order["channels"]]
        self.machine: Mapping[str, str | None] | None = order.get("machine")
        subdir = rattler.Subdir(str(self.machine["subdir"])) if self.machine else rattler.Subdir.current()
        self.platforms = [subdir, rattler.Subdir("noarch")]
        self.priority = ChannelPriority[str(order["priority"]).capitalize()]

    async def versions(
        self, names: Sequence[str], subdirs: Sequence[str] = ()
    ) -> Mapping[str, Mapping[str, list[str]]]:
        """What the channels have of each name: version → builds."""
        platforms = [rattler.Subdir(name) for name in subdirs] or self.platforms
        found: dict[str, dict[str, list[str]]] = {}
        for records in await self.gateway.query(self.channels, platforms, list(names), recursive=False):
            for record in records:
                builds = found.setdefault(record.name.normalized, {}).setdefault(str(record.version), [])
                builds.append(str(record.build))
        return found


def main() -> None:
    """Do the order of the file that the first argument names, and print the answer."""
    warnings.simplefilter("ignore")
    with open(sys.argv[1], encoding="utf-8") as f:
        order = json.load(f)
    tasks = {"solve": _solve, "names": _names, "install": _install}
    try:
        answer = asyncio.run(_translated(tasks[order["task"]](order)))
    except _Failed as failure:
        answer = failure.answer
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # rattler's threads may still run, and crash while the interpreter is taken down


async def _translated(task: Any) -> Answer:
    """The task's answer; rattler's exceptions as failures of our kinds."""
    try:
        answer: Answer = await task
    except (GatewayError, FetchRepoDataError, InvalidChannelError, InvalidUrlError) as e:
        raise _Failed("channel", str(e)) from e
    except InvalidMatchSpecError as e:
        raise _Failed("spec", str(e)) from e
    except (InstallerError, LinkError, IoError, OSError) as e:
        raise _Failed("install", str(e)) from e
    return answer


async def _names(order: Order) -> Answer:
    """Which of the names the channels have."""
    asker = _Asker(order)
    return {"known": sorted(await asker.versions(order["names"]))}


async def _solve(order: Order) -> Answer:
    """Solutions, newest Python first: one, or with ``others`` one for each older Python as well."""
    asker = _Asker(order)
    specs = [_match(entry) for entry in order["specs"]]
    limits = [limit for entry in order["limits"] if (limit := _limit(entry))]
    try:
        solutions = [await _solved(asker, specs, limits)]
    except SolverError as e:
        raise await _why(asker, str(e), specs) from e
    while order["others"] and (older := _older(solutions[-1])):
        try:
            solutions.append(await _solved(asker, [*specs, rattler.MatchSpec(older)], limits))
        except SolverError:
            break  # there is none
    return {"solutions": [[_as_dict(record) for record in solution] for solution in solutions]}


async def _solved(asker: _Asker, specs: list[Any], limits: list[Any]) -> list[Any]:
    """The records of one solution. What depends on azureml packages finds Windlass in their place."""
    virtual = _virtual(asker.machine)
    stand_ins: dict[str, Any] = {}
    for _ in range(_MOST_ROUNDS):
        try:
            return await rattler.solve(
                asker.channels, specs, gateway=asker.gateway, platforms=asker.platforms, constraints=limits,
                virtual_packages=[*virtual, *stand_ins.values()], channel_priority=asker.priority,
            )  # fmt: skip
        except SolverError as e:
            more = {f"{name}={v}": _stand_in(name, v) for name, clause in _AZUREML.findall(str(e))
                    for v in _satisfying(clause)}  # fmt: skip
            if not set(more) - set(stand_ins):
                raise
            stand_ins.update(more)
    raise _Failed("unsolvable", "azureml packages keep coming in as dependencies")


def _virtual(machine: Mapping[str, str | None] | None) -> list[Any]:
    """What stands for the machine where the packages will run; None: this one."""
    if machine is None:
        return [*rattler.VirtualPackage.detect(VirtualPackageOverrides.from_env())]
    # Which kernel it is nobody knows here. What asks for one asks for an old one, which runs such a C library too.
    known = {"__unix": "0", "__linux": _KERNEL, "__glibc": machine["glibc"], "__cuda": machine["cuda"]}
    found = [_stand_in(name, version) for name, version in known.items() if version]
    name, version = rattler.PackageName("__archspec"), rattler.Version("1")
    return [*found, rattler.GenericVirtualPackage(name, version, BuildString(str(machine["name"])))]


async def _why(asker: _Asker, text: str, specs: Sequence[Any]) -> _Failed:
    """The failure for the solver's words: a name that no channel has, no such version, or a conflict."""
    absent = [first or second for first, second in _ABSENT.findall(text)]
    absent = [name for name in absent if not name.startswith("__")]
    known = await asker.versions(absent) if absent else {}
    for name in absent:
        if name not in known:
            elsewhere = await _elsewhere(asker, name)
            near = [] if elsewhere else await _near(asker, name)
            return _Failed("unknown", text, name=name, near=near, elsewhere=elsewhere)
    if absent and not text.count("─"):
        have = known[absent[0]]
        versions = sorted(have, key=rattler.Version)
        if any(spec.build for spec in specs if _name_of(spec) == absent[0]):
            versions = [f"{version}={build}" for version in versions for build in sorted(have[version])]
        return _Failed("version", text, name=absent[0], versions=versions[-12:])
    return _Failed("unsolvable", text)


def _name_of(spec: Any) -> str:
    return re.split(r"[\s=<>!~\[]", str(spec).rpartition("::")[2], maxsplit=1)[0]


async def _elsewhere(asker: _Asker, name: str) -> list[str]:
    """Other platforms for which the channels have the package."""
    found = []
    for subdir in _OTHER_SUBDIRS:
        try:
            found += [subdir] if await asker.versions([name], [subdir]) else []
        except (GatewayError, FetchRepoDataError):
            continue  # a channel need not have the folder of that platform
    return found


async def _near(asker: _Asker, name: str) -> list[str]:
    known = [item.normalized for item in await asker.gateway.names(asker.channels, asker.platforms)]
    return difflib.get_close_matches(name, known, n=3, cutoff=0.75)


def _satisfying(clause: str) -> list[str]:
    """Versions one of which is likely to satisfy the clause."""
    numbers = re.findall(r"\d[\w.]*", clause) or ["1"]
    return [*numbers, f"{numbers[0]}.1", "0"]


def _stand_in(name: str, version: str) -> Any:
    return rattler.GenericVirtualPackage(rattler.PackageName(name), rattler.Version(version), BuildString("0"))


def _older(solution: Sequence[Any]) -> str | None:
    """What asks for a Python of a lower minor version than the solution's."""
    for record in solution:
        if record.name.normalized == "python":
            minor = str(record.version).split(".")[1]
            return f"python <3.{minor}" if int(minor) > _OLDEST_MINOR else None
    return None


async def _install(order: Order) -> Answer:
    """Link the packages into the prefix; tells which wanted to run a script of theirs."""
    for package in order["packages"]:
        _verify(package)
    asker = _Asker({**order, "channels": []})
    cache = PackageCache.new_layered([str(Path(order["cache"]) / "packages")], validation_mode=ValidationMode.full())
    await rattler.install(
        [_record(package) for package in order["packages"]], order["prefix"], package_cache=cache, client=asker.client,
        show_progress=False, execute_link_scripts=False, reporter=_Reporter(),  # type: ignore[abstract]  # rattler's own defaults have empty bodies
        alternative_target_prefix=order["final"],
    )  # fmt: skip
    scripts = Path(order["prefix"], "bin").glob(".*-post-link.sh")
    return {"scripts": sorted(path.name[1 : -len("-post-link.sh")] for path in scripts)}


def _verify(package: Mapping[str, str]) -> None:
    """Compare a file of this machine with its hash, which rattler does for downloads only."""
    url = urllib.parse.urlsplit(package["url"])
    if url.scheme != "file":
        return
    algorithm, _, wanted = package["hash"].partition(":")
    path = urllib.parse.unquote(url.path)
    with open(path, "rb") as f:
        found = hashlib.file_digest(f, algorithm).hexdigest()
    if found != wanted:
        raise _Failed("hash", f"hash mismatch for {path}: expected {wanted}, got {found}", name=os.path.basename(path))


class _Reporter(rattler.InstallerReporter):
    """Says what is downloaded."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        self._names[operation] = package_name
        return operation

    def on_download_start(self, cache_entry: int) -> int:
        sys.stderr.write(f"Downloading {self._names.get(cache_entry, 'a package')}\n")
        sys.stderr.flush()
        return cache_entry


def _record(package: Mapping[str, str]) -> Any:
    folder, _, file_name = package["url"].rpartition("/")
    name, version, build = re.sub(r"\.(conda|tar\.bz2)\Z", "", urllib.parse.unquote(file_name)).rsplit("-", 2)
    algorithm, _, digest = package["hash"].partition(":")
    hashes: dict[str, Any] = {algorithm: bytes.fromhex(digest)}
    channel, _, subdir = folder.rpartition("/")
    record = rattler.PackageRecord(name, version, BuildString(build), 0, subdir, **hashes)
    return rattler.RepoDataRecord(record, file_name, package["url"], channel)


def _as_dict(record: Any) -> Mapping[str, Any]:
    digest = f"sha256:{record.sha256.hex()}" if record.sha256 else f"md5:{record.md5.hex()}" if record.md5 else None
    if digest is None:
        raise _Failed("hash", f"The channel tells no hash of {record.file_name}", name=record.file_name)
    python = any(text.split()[0] in ("python", "python_abi") for text in record.depends)
    return {
        "name": record.name.normalized, "version": str(record.version), "build": str(record.build), "url": record.url,
        "hash": digest, "python": python or record.noarch.python,
    }  # fmt: skip


def _match(entry: Mapping[str, str | None]) -> Any:
    """An entry of the list as rattler's, with the channel that it names by address."""
    try:
        if not entry["channel"]:
            return rattler.MatchSpec(str(entry["match"]))
        return rattler.MatchSpec(f"{_channel(entry['channel']).base_url}::{entry['match']}")
    except InvalidMatchSpecError as e:
        raise _Failed("spec", str(e), name=entry["text"]) from e


def _limit(entry: Mapping[str, str | None]) -> Any:
    """As ``_match``; None for what only PyPI can read, which then limits nothing here."""
    try:
        return rattler.MatchSpec(str(entry["match"]))
    except InvalidMatchSpecError:
        return None


def _channel(text: str) -> Any:
    return rattler.Channel(text)


def _toml(order: Order) -> str:
    lines = ["tls-no-verify = true"] if not order["verify"] else []
    return "\n".join([*lines, 'tls-root-certs = "system"', ""])


if __name__ == "__main__":
    main()
