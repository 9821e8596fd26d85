from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from windlass import settings
from windlassd.testing.netns import Machine, Network, Process

pytestmark = pytest.mark.nodes
ANSWERS = """
import socket
with socket.create_server(("0.0.0.0", 5000), backlog=8) as listener:
    print("listens", flush=True)
    while True:
        line, _ = listener.accept()
        line.sendall(socket.gethostname().encode())
        line.close()
"""
ASKS = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 5000), float(sys.argv[2])) as line:
        print(line.recv(100).decode())
except OSError:
    print("nothing")
"""
HEARS = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("0.0.0.0", 6000))
    print("hears", flush=True)
    while True:
        print(s.recvfrom(100)[0].decode(), flush=True)
"""
SAYS = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(sys.argv[2].encode(), (sys.argv[1], 6000))
"""


def serve(machine: Machine, text: str = ANSWERS) -> Process:
    process = machine.start([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert process.stdout.readline().split()[0] in (b"listens", b"hears")
    return process


def ask(address: str, machine: Machine | None = None, timeout_s: float = 10.0) -> str:
    words = [sys.executable, "-c", ASKS, address, str(timeout_s)]
    return (machine.run(*words) if machine else subprocess.check_output(words, text=True)).strip()


def test_machines_reach_each_other_by_name_and_this_one(network: Network, machines: Sequence[Machine]) -> None:
    one, two, _ = machines
    serve(two)
    assert ask("two", one) == ask(two.address, one) == ask(two.address) == "two"
    here = subprocess.Popen([sys.executable, "-c", ANSWERS], stdout=subprocess.PIPE)
    with here:
        assert here.stdout is not None and here.stdout.readline()
        assert ask(network.address, one) == ask("server", one) == os.uname().nodename
        here.kill()


def test_a_machine_has_everything_of_its_own(home: Path, machines: Sequence[Machine], tmp_path: Path) -> None:
    (home / "secret").write_text("the server's")
    (tmp_path / "mine").write_text("the test's")
    one, two, _ = machines
    one.run(
        "sh", "-c", "echo here > /tmp/note; echo here > /dev/shm/note; echo here > $HOME/note; mkdir $WINDLASS_HOME"
    )
    assert one.path("/tmp/note").read_text() == one.path("/dev/shm/note").read_text() == "here\n"
    seen = two.run(
        "sh", "-c", f"ls /tmp /dev/shm $HOME $WINDLASS_HOME {home} {tmp_path} {settings.runtime_dir()} 2>&1; true"
    )
    assert "note" not in seen and "secret" not in seen and "mine" not in seen
    assert not Path("/dev/shm/note").exists() and not Path("/tmp/note").exists()
    ids = {machine.run("cat", "/proc/sys/kernel/random/boot_id") for machine in machines}
    assert len(ids | {Path("/proc/sys/kernel/random/boot_id").read_text()}) == 4
    assert [machine.run("hostname").strip() for machine in machines] == ["one", "two", "three"]


def test_a_process_is_known_by_both_of_its_numbers(machines: Sequence[Machine]) -> None:
    sleeper = machines[0].start(["sh", "-c", "echo $$; exec sleep infinity"], stdout=subprocess.PIPE)
    assert int(sleeper.stdout.readline()) == sleeper.pid_inside
    assert sleeper.pid is not None and sleeper.pid != sleeper.pid_inside
    _until(lambda: psutil.Process(sleeper.pid).name() == "sleep")
    assert [p.pid for p in machines[0].processes()] == [sleeper.pid] and machines[1].processes() == []
    sleeper.signal(signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM and machines[0].processes() == []


def test_orphans_are_reaped(machines: Sequence[Machine]) -> None:
    machines[0].run("sh", "-c", "(sleep 0.01 &) ; (setsid true &)")
    _until(lambda: machines[0].processes() == [])


def test_a_crash_ends_all_and_a_restart_keeps_the_disk(machines: Sequence[Machine], home: Path) -> None:
    one, two, _ = machines
    one.run("sh", "-c", f"echo kept > /tmp/note; echo gone > /dev/shm/note; mkdir -p {home}")
    boot = one.run("cat", "/proc/sys/kernel/random/boot_id")
    sleeper = one.start(["setsid", "sleep", "infinity"])
    one.kill()
    assert sleeper.poll() == -signal.SIGKILL and not one.up and one.processes() == []
    assert ask(one.address, two, 0.3) == "nothing"
    one.restart()
    assert one.run("cat", "/tmp/note") == "kept\n" and one.run("ls", "/dev/shm") == ""
    one.run("touch", f"{home}/own")  # what is hidden here may be a folder of its own there
    assert one.run("cat", "/proc/sys/kernel/random/boot_id") != boot
    serve(one)
    assert ask("one", two) == "one"


def test_cut_and_heal(machines: Sequence[Machine]) -> None:
    one, two, three = machines
    serve(two)
    two.cut()
    assert ask("two", one, 0.3) == ask(two.address, None, 0.3) == "nothing"
    assert two.run("echo", "alive") == "alive\n"
    two.heal()
    assert ask("two", one) == ask("two", three) == "two"


@pytest.mark.parametrize("cut_off", ["to", "away"])
def test_one_way(machines: Sequence[Machine], cut_off: str) -> None:
    one, two, _ = machines
    lines = {machine: serve(machine, HEARS) for machine in (one, two)}
    tell = [sys.executable, "-c", SAYS]
    for sender, to in ((one, two), (two, one)):  # so that their addresses are known on both sides
        sender.run(*tell, to.name, "before")
        assert lines[to].stdout.readline() == b"before\n"
    two.cut(to=cut_off == "to", away=cut_off == "away")
    one.run(*tell, "two", "lost" if cut_off == "to" else "heard")
    two.run(*tell, "one", "heard" if cut_off == "to" else "lost")
    heard = lines[one if cut_off == "to" else two]
    assert heard.stdout.readline() == b"heard\n"
    two.heal()
    one.run(*tell, "two", "healed")
    two.run(*tell, "one", "healed")
    for line in lines.values():
        assert line.stdout.readline() == b"healed\n"


def test_a_small_disk_fills_up(network: Network) -> None:
    (small,) = network.start("small", disk_bytes=1 << 20)
    with pytest.raises(subprocess.CalledProcessError):
        small.run("sh", "-c", "head -c 3000000 /dev/zero > /tmp/big 2>/dev/null")


def test_a_shared_folder(network: Network, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("seen")
    (one,) = network.start("one", shared=[tmp_path])
    assert one.run("cat", str(tmp_path / "data")) == "seen"
    one.run("sh", "-c", f"echo written > {tmp_path}/back")
    assert (tmp_path / "back").read_text() == "written\n"


def test_a_slow_line_is_slow(machines: Sequence[Machine]) -> None:
    machines[0].slow(1_000_000)
    seen = machines[0].run("tc", "qdisc", "show", "dev", "eth0")
    assert "rate 1Mbit" in seen
    machines[0].heal()
    assert "rate" not in machines[0].run("tc", "qdisc", "show", "dev", "eth0")


def test_nothing_is_left_when_the_test_is_killed(home: Path) -> None:
    text = """
import signal
from windlassd.testing.netns import Network
network = Network()
one, = network.start("one")
process = one.start(["setsid", "sleep", "infinity"])
print(process.pid, network.folder, network._interface, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        pid, folder, interface = killed.stdout.readline().split()
        assert interface in psutil.net_if_stats() and psutil.pid_exists(int(pid)) and Path(folder).exists()
        killed.kill()
    _until(lambda: not psutil.pid_exists(int(pid)) and interface not in psutil.net_if_stats())
    with Network():
        assert not Path(folder).exists()


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)
