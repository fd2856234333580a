"""The commands of `gliograde`, one module each or a few that belong together."""
