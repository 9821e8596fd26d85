"""How the client reaches a workspace server: HTTP over a Unix socket, starting the server when none runs."""
