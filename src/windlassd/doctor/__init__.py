"""Examine a workspace and its home, and repair what can be repaired without losing anything."""
