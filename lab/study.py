"""One backtest from its options to its figures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from consumer import settings
from consumer.local.market_bars import BarsError
from consumer.local.paper_signals import EntryRule
from consumer.words import plural
from lab import backtest, bars, entries
from lab.outcomes import Costs, walk_all
from lab.progress import Track
from lab.report import Study, verdict
from lab.results import Result, compare
from lab.spells import dwell


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of `meta-strategy backtest`; see there."""

    bars: Sequence[Path] = ()
    symbol: str | None = None
    timeframe: str | None = None
    policies: Sequence[str] = ()
    signals: str = EntryRule.BREAKOUT.value
    fees_bps: float | None = None
    spread_bps: float = 0.0
    seed: int = 1
    command: str = ""
    """What was typed."""


def _told(policy: str) -> dict[str, str]:
    """Give the settings of a policy; the one that earns profit only is not told of another aim."""
    aim = {"meta_strategy_objective": "profit"} if policy == "epsilon_greedy" else {}
    return {"meta_strategy_policy": policy, **aim}


def make(asked: Asked, *, track: Track) -> Study:
    """Run all policies and baselines.

    Raises:
        BarsError: The bars or the signals cannot be used; WrongUseError: nor what was asked of them.
        SettingsError: A policy, or a setting, is wrong.
    """
    seed = asked.seed
    if asked.policies:
        named = {
            name: settings.load(meta_strategy_seed=seed, **_told(name))
            for name in dict.fromkeys(asked.policies)
        }
    else:
        worker = settings.load(meta_strategy_seed=seed)
        named = {worker.meta_strategy_policy: worker}
    loaded = next(iter(named.values()))
    series = bars.load(asked.bars, symbol=asked.symbol, timeframe=asked.timeframe)
    left_out = 0
    if asked.signals in list(EntryRule):
        found = entries.by_rule(series, EntryRule(asked.signals), seed, track=track)
    else:
        found, left_out = entries.from_file(series, Path(asked.signals), track=track)
    if not found:
        raise BarsError("the bars give no signal: more than 60 are needed before the first one")
    costs = Costs(asked.fees_bps, asked.spread_bps)
    outcomes = walk_all(found, loaded.all_profiles, costs, track=track)
    outcomes = replace(outcomes, left_out=outcomes.left_out + left_out)
    signals = backtest.encode_signals(outcomes, loaded.detector, track=track)
    made = [backtest.run(one, name, outcomes, signals, track=track) for name, one in named.items()]
    uniform = settings.load(
        meta_strategy_seed=seed,
        meta_strategy_enabled=True,
        **_told("epsilon_greedy"),
        meta_strategy_epsilon=1.0,
        meta_strategy_epsilon_min=None,
    )
    drawn = replace(
        backtest.run(uniform, "uniform", outcomes, signals, track=track), state=None, explored=0
    )
    default, *hindsight = backtest.baselines(outcomes, signals, loaded.default_strategy)
    study = compare(outcomes, [*made, default, drawn, *hindsight], default, seed, track=track)
    return Study(
        outcomes,
        signals,
        study,
        [bars.describe(one) for one in series],
        dwell(series, loaded.detector, track=track),
        {
            "command": asked.command,
            "version": version("meta-strategy-selector"),
            "seed": str(seed),
            "signals": f"{asked.signals}; {outcomes.left_out} left out",
            "fees": f"{_bps(costs.fees_bps)}; spread {costs.spread_bps:g} basis points",
            "reward unit of Q": loaded.meta_strategy_reward_unit,
        }
        | {f"policy version of {name}": one.decider.policy_version for name, one in named.items()},
    )


def _bps(fees_bps: float | None) -> str:
    if fees_bps is None:
        return "by market: 0.8 basis points for currencies, 1 for stocks, 4 for coins"
    return f"{fees_bps:g} basis points"


def lines(study: Study) -> list[str]:
    """Put the figures in short, for people."""
    results = study.comparison.results
    width = max(len(one.run.name) for one in results)
    symbols = ", ".join(one.symbol for one in study.data)
    text = [
        f"{len(study.outcomes)} {plural(len(study.outcomes), 'signal')} of {symbols}; {study.outcomes.left_out} left out",
        "",
        f"{'':<{width}}   mean R           95 %  weeks    total R  drawdown  trades  open",
    ]
    text += [_line(one, width) for one in results]
    text.append("")
    text += [verdict(study, one) for one in results if one.run.state is not None]
    return text


def _line(one: Result, width: int) -> str:
    interval = one.mean_interval
    bounds = (
        "not enough data" if interval is None else f"{interval.low:+.2f} .. {interval.high:+.2f}"
    )
    return (
        f"{one.run.name:<{width}}   {one.mean_r:+6.3f}  {bounds:>15}  {one.mean_weeks:>5}  {one.total_r:+8.1f}"
        f"  {one.drawdown:8.1f}  {one.net_r.size:6}  {one.open:4}"
    )


def figures(study: Study) -> dict[str, Any]:
    """Give all figures, for programs."""
    return {
        "signals": len(study.outcomes),
        "left_out": study.outcomes.left_out,
        "weeks": study.comparison.weeks,
        "data": [one._asdict() for one in study.data],
        "settings": dict(study.settings),
        "policies": [
            {
                "name": one.run.name,
                "reachable": one.run.is_reachable,
                "mean_r": one.mean_r,
                "mean_r_interval": one.mean_interval and one.mean_interval[1:],
                "mean_r_block_weeks": one.mean_weeks,
                "gain_r": one.gain and one.gain.value,
                "gain_r_interval": one.gain and one.gain[1:],
                "gain_r_block_weeks": one.gain_weeks,
                "total_r": one.total_r,
                "trades": int(one.net_r.size),
                "open": one.open,
                "open_r": one.open_r,
                "sharpe": one.sharpe,
                "sharpe_annual": one.sharpe_annual,
                "drawdown_r": one.drawdown,
                "cvar_5_r": one.cvar,
                "downside_deviation_r": one.downside,
                "win_rate": one.win_rate,
                "cost_of_tp1": one.cost_of_tp1,
                "explored": one.run.explored,
            }
            for one in study.comparison.results
        ],
    }
