"""Rows of the table as an operator sees them in Redis."""

from collections.abc import Mapping

import orjson

from consumer.domain.qtable import ArmStats


def arms_of(fields: Mapping[str, str]) -> dict[str, ArmStats]:
    """Read a row's hash; fields that belong to no arm are passed over."""
    strategies = [name.removesuffix(":count") for name in fields if name.endswith(":count")]
    return {strategy: _arm(fields, strategy) for strategy in strategies}


def _arm(fields: Mapping[str, str], strategy: str) -> ArmStats:
    def count(name: str) -> int:
        return int(fields.get(f"{strategy}:{name}", 0))

    def number(name: str) -> float:
        return float(fields.get(f"{strategy}:{name}", 0.0))

    sums = orjson.loads(fields.get(f"{strategy}:features", "[[], []]"))
    return ArmStats(
        count=count("count"),
        ema_reward=number("ema_reward"),
        win_count=count("win_count"),
        loss_count=count("loss_count"),
        total_r=number("total_r"),
        sum_squares=number("sum_squares"),
        loss_squares=number("loss_squares"),
        recent_r=number("recent_r"),
        paper_count=count("paper_count"),
        paper_r=number("paper_r"),
        paper_squares=number("paper_squares"),
        paper_loss_squares=number("paper_loss_squares"),
        recent_paper_r=number("recent_paper_r"),
        feature_sums=tuple(map(float, sums[0])),
        paper_feature_sums=tuple(map(float, sums[1])),
    )
