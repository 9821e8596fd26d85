"""Revisions of the database, by Alembic; run from ``_migrate.py``, never from a shell.

A change of ``schema.py`` comes with a revision in ``versions/`` and a new ``schema.REVISION``; tests compare the tables
that the revisions make with those of ``schema.py``.
"""
