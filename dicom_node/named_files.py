"""Settings out of files that environment variables name, as container platforms hand secrets over."""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource, SettingsError


class NamedFilesSource(PydanticBaseSettingsSource):
    """`GLIOGRADE_DATABASE_URL_FILE=/run/secrets/db` sets `database_url` to that file's text.

    A file that can't be read is an error that names the variable, never the text.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Text of the field's file, None where no variable names one."""
        del field
        variable = f"{self.config.get('env_prefix', '')}{field_name}_FILE".upper()
        path = os.environ.get(variable)
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text().strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the file that {variable} names can't be read") from error

    def __call__(self) -> dict[str, Any]:
        """All fields that a file is named for."""
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}
