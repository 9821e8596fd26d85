"""The listener for agents on other machines: TLS, tokens, and only the calls that agents and their jobs need."""
