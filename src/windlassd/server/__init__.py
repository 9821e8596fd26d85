"""The server process: ``api`` for clients and agents on the socket, ``web`` for the browser, ``main`` around both."""
