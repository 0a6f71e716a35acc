"""Choosing when every arm's outcome is known on paper, whoever was chosen."""

from collections.abc import Mapping
from dataclasses import dataclass

from consumer.domain.draws import Draws
from consumer.domain.policies.base import Choice, Situation
from consumer.domain.policies.ucb import Ucb


@dataclass(frozen=True, slots=True, kw_only=True)
class FullInformation:
    """Take the best by outcomes on paper; by what was earned while there are none to be believed.

    Outcomes on paper come without being chosen, so there is little to explore. A small bound is left:
    a wide ladder's outcomes swing more, and it has to be held for longer to be seen to its end.

    Args:
        on_paper: Judges outcomes on paper.
        earned: Judges real rewards.
    """

    on_paper: Ucb
    earned: Ucb
    name: str = "full_information"

    @property
    def leans_on_parents(self) -> bool:
        """Whether it looks at the rows over all symbols: yes."""
        return True

    @property
    def initial_epsilon(self) -> float:
        """Exploration rate [1]: 0, nothing is drawn, ever."""
        return 0.0

    def choose(self, situation: Situation, draws: Draws) -> Choice:
        """Pick one of the candidates."""
        # by rewards alone nothing is asked of features
        plain = situation._replace(features=())
        if not any(stats.paper_count for stats in situation.parents[0].values()):
            return self.earned.choose(plain, draws)
        if situation.trusts_paper:
            return self.on_paper.choose(situation, draws)
        choice = self.earned.choose(plain, draws)
        return choice._replace(reasoning=f"{choice.reasoning}; paths are not believed: too far off")

    def parameters(self) -> Mapping[str, float | str]:
        """Give all that changes its choices, for the policy's version."""
        return {
            "name": self.name,
            "on_paper": repr(dict(self.on_paper.parameters())),
            "earned": repr(dict(self.earned.parameters())),
        }
