"""Secrets from files that variables name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from consumer.errors import SettingsError

SECRETS = ("KAFKA_SASL_PASSWORD", "REDIS_URL")
"""Variables whose value may come from the file that `<NAME>_FILE` names."""


class SecretFiles(PydanticBaseSettingsSource):
    """Values of secrets from the files that `<NAME>_FILE` name.

    Args:
        settings_cls: The settings.
        variables: Of the environment, or of `.env`; names in lower case.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]
    ) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Give a secret; see PydanticBaseSettingsSource."""
        return _secret_from_file(field_name.upper(), self._variables), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give all secrets that have a file."""
        # a file that is named in `.env` is not looked at when the environment has the secret
        wanted = [name for name in SECRETS if name.lower() not in self.current_state]
        found = {name.lower(): _secret_from_file(name, self._variables) for name in wanted}
        return {name: value for name, value in found.items() if value is not None}


def _secret_from_file(variable: str, variables: Mapping[str, str | None]) -> str | None:
    path = (variables.get(f"{variable}_FILE".lower()) or "").strip()
    if not path:
        return None
    if (variables.get(variable.lower()) or "").strip():
        raise SettingsError(f"{variable}_FILE: {variable} is set, too; set only one of them")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsError(f"{variable}_FILE: cannot read {path}: {reason}") from None
