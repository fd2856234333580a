"""The installed version of gliograde."""

from importlib.metadata import version

VERSION = version("gliograde")
