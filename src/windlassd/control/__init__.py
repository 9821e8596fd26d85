"""Use cases and loops of a workspace: runs, queue, environments, agents, files, models."""
