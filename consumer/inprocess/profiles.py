"""The profiles of this process: built in, added, changed."""

from collections.abc import Iterator, MutableMapping

from consumer.domain.strategies import merge_profiles
from schemas import StrategyProfile


class ProfileRegistry(MutableMapping[str, StrategyProfile]):
    """Profiles by id: the built-in ones first, then custom ones in the order they came.

    Assigning to a built-in id takes its place; deleting that brings the built-in one back.
    """

    def __init__(self) -> None:
        self._custom: dict[str, StrategyProfile] = {}
        self._all = merge_profiles(())

    def __getitem__(self, key: str) -> StrategyProfile:
        return self._all[key]

    def __setitem__(self, key: str, profile: StrategyProfile) -> None:
        if key != profile.strategy_id:
            raise ValueError(f"strategy_id must be the key {key!r}, was {profile.strategy_id!r}")
        self._custom[str(key)] = profile
        self._all = merge_profiles(self._custom.values())

    def __delitem__(self, key: str) -> None:
        if key in self._all and key not in self._custom:
            raise ValueError(f"{key} is built in and stays")
        del self._custom[key]
        self._all = merge_profiles(self._custom.values())

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<profiles: {', '.join(self._all)}>"


STRATEGY_PROFILES = ProfileRegistry()
"""All profiles of this process; selectors see a change at their next call."""


def get_strategy_profile(strategy_id: str) -> StrategyProfile:
    """Look a profile up.

    Args:
        strategy_id: A `StrategyID`, or the id of a custom profile.

    Raises:
        ValueError: There is none of this id.
    """
    if strategy_id not in STRATEGY_PROFILES:
        known = ", ".join(STRATEGY_PROFILES)
        raise ValueError(f"strategy_id must be one of {known}, was {str(strategy_id)!r}")
    return STRATEGY_PROFILES[strategy_id]


def register_strategy_profile(profile: StrategyProfile) -> None:
    """Add a profile, or put it in the place of the one with its id, for the whole process."""
    STRATEGY_PROFILES[profile.strategy_id] = profile
