"""The server side of Windlass: workspace server, agent, engines and environment builders."""

__version__ = "0.1.0"
