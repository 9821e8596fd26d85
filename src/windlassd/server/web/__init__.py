"""The browser's pages: server-rendered, live, behind a session and a strict content security policy."""
