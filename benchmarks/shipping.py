"""Outputs and logs of a node on their way to the server, beside `rsync` and `cp` of as much.

Two network namespaces are joined by a pair of virtual cables (loopback, where that needs a right that is not there). An
agent's shipping, over TLS and with SHA-256 at both ends, is held against an `rsync` daemon over the same cable, which
does not encrypt, and against `cp`, which has no cable to pass.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from _measure import Row, interleaved, median_of_pairs, ms, note, percentile, quick, rounds, tell

_TARGET, _LAG_S = 1.2, 0.05
_ENDS = str(Path(__file__).with_name("_ship_ends.py"))
_PORT = 18873
_TEXT = b"".join(
    b"%06d epoch=%d loss=%.6f accuracy=%.4f\n" % (n, n % 97, 1 / (n + 1), n % 1000 / 1000) for n in range(20_000)
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=16 if quick() else 1024)
    parser.add_argument("--log-mb", type=int, default=2 if quick() else 100)
    parser.add_argument("--rounds", type=int, default=rounds(3))
    args = parser.parse_args()
    home = os.environ["WINDLASS_HOME"]
    with ExitStack() as stack:
        cable = stack.enter_context(_cable())
        ends = stack.enter_context(_Ends.up(home, cable))
        size = f"{args.mib / 1024:g} GiB"
        for what, files, packs in (
            ("in one file", 1, False), ("in one file that compresses", 1, True), ("in 1,000 files", 1000, False),
        ):  # fmt: skip
            source = _fill(os.path.join(home, "source"), args.mib << 20, files, packs)
            _compare(f"{size} of outputs {what}: the end → all on the server", ends, source, args.rounds)
            shutil.rmtree(source)
        source = os.path.join(home, "log")
        with open(source, "wb") as log:
            for _ in range(args.log_mb * 1_000_000 // len(_TEXT)):
                log.write(_TEXT)
        _compare_log(f"{args.log_mb} MB of log", ends, source, args.rounds)
        lags = ends.ask("lines", 20 if quick() else 300)["lags"]
        p95 = percentile(lags, 95)
        tell(Row(
            "a printed line → held by the server", f"p50 {ms(statistics.median(lags))}, p95 {ms(p95)}",
            target=f"p95 ≤ {ms(_LAG_S)}", met=p95 <= _LAG_S,
        ))  # fmt: skip
        tell(Row("memory of the agent's process, most", f"{ends.ask('peak')['bytes'] / 2**20:.0f} MiB"))
    note(f"Both ends and `rsync`'s share {os.cpu_count()} cores. The cable: {cable.words}.")


def _compare(what: str, ends: _Ends, source: str, count: int) -> None:
    ours = partial(ends.seconds, "ship", source)
    seconds = interleaved(count, {"ours": ours, "rsync": partial(ends.rsync, source), "cp": partial(ends.cp, source)})
    share = median_of_pairs(seconds["ours"], seconds["rsync"], lambda a, b: a / b)
    tell(Row(
        what, ms(statistics.median(seconds["ours"])), f"`rsync`: {ms(statistics.median(seconds['rsync']))}",
        f"{share:.2f}x", f"≤ {_TARGET}x", share <= _TARGET,
    ))  # fmt: skip
    share = median_of_pairs(seconds["ours"], seconds["cp"], lambda a, b: a / b)
    tell(Row("… beside a copy", "", f"`cp`: {ms(statistics.median(seconds['cp']))}", f"{share:.2f}x"))


def _compare_log(what: str, ends: _Ends, source: str, count: int) -> None:
    ours = partial(ends.seconds, "log", source)
    seconds = interleaved(count, {"ours": ours, "rsync": partial(ends.rsync, source), "cp": partial(ends.cp, source)})
    share = median_of_pairs(seconds["ours"], seconds["rsync"], lambda a, b: a / b)
    tell(Row(
        what, ms(statistics.median(seconds["ours"])),
        f"`rsync`: {ms(statistics.median(seconds['rsync']))}, `cp`: {ms(statistics.median(seconds['cp']))}",
        f"{share:.2f}x", f"≤ {_TARGET}x", share <= _TARGET,
    ))  # fmt: skip


class _Cable:
    """Between two machines: how to run something on each, and the server's address."""

    def __init__(
        self, words: str, server: Sequence[str] = (), node: Sequence[str] = (), address: str = "127.0.0.1"
    ) -> None:
        self.words, self.server, self.node, self.address = words, server, node, address


@contextmanager
def _cable() -> Iterator[_Cable]:
    """Two namespaces of this benchmark's own, or loopback."""
    name = f"wlship{secrets.token_hex(3)}"
    server, node = f"{name}s", f"{name}n"
    run = partial(subprocess.run, check=True, capture_output=True)
    try:
        run(["ip", "netns", "add", server])
        run(["ip", "netns", "add", node])
        run(["ip", "-n", server, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", node])
        for end, address in ((server, "10.77.0.1/24"), (node, "10.77.0.2/24")):
            run(["ip", "-n", end, "addr", "add", address, "dev", "cable"])
            run(["ip", "-n", end, "link", "set", "cable", "up"])
            run(["ip", "-n", end, "link", "set", "lo", "up"])
        enter = ("ip", "netns", "exec")
        yield _Cable("a veth pair between two network namespaces", (*enter, server), (*enter, node), "10.77.0.1")
    except (OSError, subprocess.CalledProcessError):
        yield _Cable("loopback, as no namespace could be made")
    finally:
        for end in (server, node):
            subprocess.run(["ip", "netns", "del", end], capture_output=True, check=False)


class _Ends:
    def __init__(self, home: str, cable: _Cable, agent: subprocess.Popen[str], target: str) -> None:
        self._home, self._cable, self._agent, self._target = home, cable, agent, target

    @classmethod
    @contextmanager
    def up(cls, home: str, cable: _Cable) -> Iterator[_Ends]:
        """Both ends, and an rsync daemon beside the server."""
        workspace, target = os.path.join(home, "workspaces", "ws"), os.path.join(home, "target")
        os.makedirs(workspace, mode=0o700)
        os.makedirs(target)
        config = os.path.join(home, "rsyncd.conf")
        with open(config, "w", encoding="utf-8") as out:
            out.write(f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n")
            out.write(f"pid file = {home}/rsyncd.pid\n[target]\npath = {target}\nread only = no\n")
        popen = partial(subprocess.Popen, stdout=subprocess.PIPE, text=True)
        started = [
            popen([*cable.server, sys.executable, _ENDS, "serve", workspace]),
            popen([*cable.server, "rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={_PORT}"]),
            popen([*cable.node, sys.executable, _ENDS, "agent"], stdin=subprocess.PIPE),
        ]
        try:
            server, _, agent = started
            assert server.stdout is not None and agent.stdin is not None
            told = json.loads(server.stdout.readline())
            hello = {
                "server": f"https://{cable.address}:{told['port']}", "certificate": told["certificate"],
                "home": os.path.join(home, "node"), "there": os.path.join(workspace, "runs", "run_1"),
            }  # fmt: skip
            agent.stdin.write(json.dumps(hello) + "\n")
            yield cls(home, cable, agent, target)
        finally:
            for process in started:
                process.kill()
                process.wait()

    def ask(self, *order: object) -> Any:
        """What the agent answers."""
        assert self._agent.stdin is not None and self._agent.stdout is not None
        self._agent.stdin.write(json.dumps(order) + "\n")
        self._agent.stdin.flush()
        return json.loads(self._agent.stdout.readline())

    def seconds(self, *order: object) -> float:
        """What it took the agent."""
        return float(self.ask(*order)["seconds"])

    def rsync(self, source: str) -> float:
        """Seconds to the daemon, into an empty folder."""
        to = f"rsync://{self._cable.address}:{_PORT}/target/"
        return self._time([*self._cable.node, "rsync", "--archive", "--whole-file", source, to])

    def cp(self, source: str) -> float:
        """Seconds of a `cp -r`."""
        return self._time(["cp", "-r", source, self._target])

    def _time(self, command: Sequence[str]) -> float:
        for entry in os.scandir(self._target):
            shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def _fill(folder: str, size: int, files: int, packs: bool) -> str:
    """A folder with so many files; returns it."""
    os.mkdir(folder)
    for number in range(files):
        left = size // files
        with open(os.path.join(folder, f"{number}.bin"), "wb") as out:
            while left:
                block = (_TEXT * 2 if packs else os.urandom(1 << 20))[: min(left, 1 << 20)]
                left -= out.write(block)
    return folder


if __name__ == "__main__":
    main()
