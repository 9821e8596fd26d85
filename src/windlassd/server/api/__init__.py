"""Thin routes of the workspace's socket; ``docs/dev/wire.md`` lists them."""
