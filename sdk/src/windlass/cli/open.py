"""``windlass open``: the pages of a workspace, in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from windlass.cli._options import WorkspaceName
from windlass.cli._session import client_of, find_run
from windlass.cli._show import result, say

if TYPE_CHECKING:
    from windlass._transport.client import Client

_IN_THE_TERMINAL = ("www-browser", "lynx", "w3m", "links", "elinks")


def open_page(
    run: Annotated[
        Optional[str], typer.Argument(metavar="RUN", help="A run (default: the list of runs).", show_default=False)
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print the address and open nothing.")] = False,
    workspace: WorkspaceName = None,
) -> None:
    """Open a run's page, or all runs, in the browser."""
    client = client_of(workspace)
    open_path(client, "/runs/%s" % find_run(client, run)["id"] if run else "/runs", print_only)


def open_path(client: "Client", path: str, print_only: bool = False) -> None:
    """Open a page, signed in; where there is no browser, print its address."""
    url = str(client.post("/v1/login-codes", {"path": path})["url"])
    if print_only or not _shown(url):
        result(url)
        say("This address signs a browser in once, within a minute.")
    else:
        say("Opened %s%s in the browser." % (url[: url.index("/login?")], path))


def _shown(url: str) -> bool:
    import webbrowser

    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    if getattr(browser, "name", "").rsplit("/", 1)[-1] in _IN_THE_TERMINAL:
        return False  # it would take over this terminal, and has no JavaScript
    return browser.open(url)
