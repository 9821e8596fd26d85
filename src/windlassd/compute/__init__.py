"""Engines: what gives a job its nodes. ``base`` is the contract, ``registry`` finds an engine by name."""
