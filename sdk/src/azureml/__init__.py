"""v1's import paths, re-exported from ``windlass``."""
