"""The agent: resident on a node, it runs what the server orders and tells what happened. See ``agent.py``."""
