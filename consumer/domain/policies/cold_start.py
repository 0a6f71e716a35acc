"""What is taken where no rewards tell better."""

from consumer.domain.policies.base import Situation
from consumer.domain.strategies import cold_start_choice


def cold_start(situation: Situation, default_strategy: str) -> str:
    """Give the regime's cold-start choice; the first candidate where it is none.

    Args:
        situation: What is to be chosen for.
        default_strategy: Id of the strategy taken where the regime is unknown.

    Source: contract, section 3.
    """
    regime, confidence, _, candidates, _, _, _ = situation
    arm = cold_start_choice(regime, confidence, default_strategy)
    return arm if arm in candidates else candidates[0]
