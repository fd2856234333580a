"""Settings as environment variables, for the processes that read them again."""

from collections.abc import Mapping

from pydantic import SecretStr
from pydantic_core import to_json

from worker.settings import Settings


def to_environment(settings: Settings) -> Mapping[str, str]:
    """`GLIOGRADE_…` variables that make an equal Settings in a child process."""
    variables = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if value is None:
            continue
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
        elif isinstance(value, str):
            text = value
        else:
            text = to_json(value).decode().strip('"')
        variables[f"GLIOGRADE_{name.upper()}"] = text
    return variables
