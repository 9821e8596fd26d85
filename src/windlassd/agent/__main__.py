"""``python -m windlassd.agent``: the agent process of one node, one per workspace and name."""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import signal
import sys

from windlassd.agent.agent import Agent


def main() -> int:
    """Serve until the server says that nothing is left to do. 0 also when an agent already runs."""
    parser = argparse.ArgumentParser(prog="windlassd.agent")
    parser.add_argument("--workspace-dir", required=True)
    parser.add_argument("--name", required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = os.path.join(given.workspace_dir, "agents", given.name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    lock = open(os.path.join(folder, "agent.lock"), "a")  # noqa: SIM115  held as long as the process lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        logging.info("an agent named %s already runs", given.name)
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Agent(given.workspace_dir, given.name).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
