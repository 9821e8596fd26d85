"""``python -m windlassd serve``: the server process of a workspace, normally started by whoever needs it first."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import sys

import uvloop

from windlass._transport.autostart import TRY_AGAIN
from windlass.errors import AzureMLException
from windlassd.server.main import AnotherServer, WorkspaceServer


def main() -> int:
    """Serve; 1 with one line on stderr when that cannot be, 75 when another server has the workspace."""
    parser = argparse.ArgumentParser(prog="windlassd")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve one workspace until nothing is left to do")
    serve.add_argument("--workspace-dir", required=True)
    serve.add_argument("--ready-fd", type=int)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(given.workspace_dir, given.ready_fd))
    except AzureMLException as problem:
        sys.stderr.write(f"windlassd: {problem}\n")
        return TRY_AGAIN if isinstance(problem, AnotherServer) else 1
    except OSError as problem:  # a bug of ours has a traceback, what a user can mend has words
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        sys.stderr.write(
            f"windlassd: The workspace {given.workspace_dir} cannot be served: {problem}. Free space, or make the"
            " folder writable for this user, then try again.\n"
        )
        return 1
    return 0


async def _serve(workspace_dir: str, ready_fd: int | None) -> None:
    await WorkspaceServer(workspace_dir, ready_fd).serve()


if __name__ == "__main__":
    sys.exit(main())
