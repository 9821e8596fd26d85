"""``python -m windlassd.agent``: the agent process of one node, one per workspace and name.

On a machine that is not the server's: ``--elsewhere``, with the engine's ticket on standard input.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys


def main() -> int:
    """Serve until the server says that nothing is left to do. 0 also when an agent already runs."""
    parser = argparse.ArgumentParser(prog="windlassd.agent")
    parser.add_argument("--workspace-dir")
    parser.add_argument("--name")
    parser.add_argument("--elsewhere", action="store_true", help="on another machine than the server; see elsewhere.py")
    parser.add_argument("--facts", action="store_true", help="print what this machine is, as JSON")
    given = parser.parse_args()
    if given.facts:
        from windlassd.agent import facts  # each of these ways needs a part of the modules, and is to start fast

        return facts.main()
    if given.elsewhere:
        from windlassd.agent import elsewhere

        return elsewhere.main()
    if not given.workspace_dir or not given.name:
        parser.error("--workspace-dir and --name are needed")
    return _here(given.workspace_dir, given.name)


def _here(workspace_dir: str, name: str) -> int:
    from windlassd.agent.agent import Agent

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = os.path.join(workspace_dir, "agents", name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = open(os.path.join(folder, "agent.lock"), "a")  # noqa: SIM115  held as long as the process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logging.info("an agent named %s already runs", name)
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Agent(workspace_dir, name).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
