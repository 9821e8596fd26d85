"""Launchers: which processes a node's part of a run has. One file per way to launch."""
