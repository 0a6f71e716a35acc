"""A file of profiles -> strategies."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from consumer.domain.strategies import STRATEGY_PROFILES
from consumer.errors import SettingsError
from schemas import StrategyProfile


def load_profiles(path: Path) -> tuple[StrategyProfile, ...]:
    """Read `[[profiles]]` tables from a TOML file.

    Raises:
        SettingsError: One line that names the file, the profile and the field.
    """
    where = f"META_STRATEGY_PROFILES_FILE: {path}"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{where}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{where}: is no TOML file: {error}") from None
    tables = content.get("profiles")
    is_tables = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    if not is_tables or not tables:
        raise SettingsError(f"{where}: has no [[profiles]] tables")
    found: dict[str, StrategyProfile] = {}
    for number, table in enumerate(tables, 1):
        if unknown := sorted(set(table) - set(StrategyProfile.model_fields)):
            raise SettingsError(
                f"{where}: profile {number}: {unknown[0]}: is no field of a profile"
            )
        base = STRATEGY_PROFILES.get(table.get("strategy_id", ""))
        try:
            profile = StrategyProfile.model_validate((base.model_dump() if base else {}) | table)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"]))
            problem = first["msg"].removeprefix("Value error, ")
            raise SettingsError(
                f"{where}: profile {number}: {field + ': ' if field else ''}{problem}"
            ) from None
        if profile.strategy_id in found:
            raise SettingsError(f"{where}: profile {number}: {profile.strategy_id} is there twice")
        found[profile.strategy_id] = profile
    return tuple(found.values())
