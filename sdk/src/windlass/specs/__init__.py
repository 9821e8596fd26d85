"""What crosses the wire: frozen dataclasses and enums shared by SDK, server and agent. No I/O in this room."""
