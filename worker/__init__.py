"""The service: the only package with state."""
