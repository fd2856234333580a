"""Measurements beside peers; each module's docstring is the command that runs it."""
