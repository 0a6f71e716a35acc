"""Writes the Grafana dashboard of the worker; run it after every change of a metric.

The dashboard is code, so that a renamed metric is a failing test and not an empty panel:
`tests/deploy/test_deploy.py` compares the committed JSON with what this file builds, and
`deploy/grafana/verify.py` runs every expression against a real Prometheus.

The SDK is needed to write the file, not to run anything, and is no dependency of the project:

    python -m venv /tmp/grafana-sdk
    /tmp/grafana-sdk/bin/pip install 'grafana-foundation-sdk==1769699379!11.6.0'
    /tmp/grafana-sdk/bin/python deploy/grafana/dashboard.py           # writes dashboards/meta-strategy.json
    /tmp/grafana-sdk/bin/python deploy/grafana/dashboard.py --check   # exit code 1 when it is stale
"""

# ruff: noqa: FBT003 -- the builders take their switches as positional booleans

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BarGaugeNamePlacement,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TARGET = Path(__file__).parent / "dashboards" / "meta-strategy.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")

# Every selector is narrowed to the deployments chosen on top of the dashboard.
JOB = 'job=~"$job"'
# Outcomes that are a trade's result; `excluded` is not learned and `revised` corrects an earlier one.
CLOSED = 'outcome=~"win|loss|flat"'

Query = tuple[str, str]  # expression, legend


def selector(metric: str, labels: str = "") -> str:
    return f"meta_strategy_{metric}{{{JOB}{', ' + labels if labels else ''}}}"


def rate(metric: str, by: str = "", labels: str = "") -> str:
    return f"sum{by and f' by ({by}) '}(rate({selector(metric, labels)}[$__rate_interval]))"


def increase(metric: str, window: str, by: str = "", labels: str = "") -> str:
    return f"sum{by and f' by ({by}) '}(increase({selector(metric, labels)}[{window}]))"


def quantile(q: float, metric: str) -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', 'le')})"


def latest(metric: str, fold: str = "sum", by: str = "") -> str:
    return f"{fold}{by and f' by ({by}) '}({selector(metric)})"


def share(part: str, whole: str) -> str:
    """A share that is 0, not absent, when no part has happened yet."""
    return f"({part} or 0 * {whole}) / {whole}"


def net_r(window: str, by: str = "") -> str:
    """R gained less R lost [R]; a strategy that has only won, or only lost, counts too."""
    trades = increase("rewards_total", window, by, CLOSED)
    gain = increase("reward_gain_r_total", window, by)
    loss = increase("reward_loss_r_total", window, by)
    return f"(({gain} or 0 * {trades}) - ({loss} or 0 * {trades}))"


def mean_r(window: str, by: str = "") -> str:
    return f"{net_r(window, by)} / ({increase('rewards_total', window, by, CLOSED)} > 0)"


def win_rate(window: str, by: str = "") -> str:
    trades = f"({increase('rewards_total', window, by, CLOSED)} > 0)"
    return share(increase("rewards_total", window, by, 'outcome="win"'), trades)


def targets(panel: Any, queries: Iterable[Query], *, instant: bool = False) -> Any:
    panel = panel.datasource(SOURCE)
    for number, (expression, legend) in enumerate(queries):
        query = (
            prometheus.Dataquery()
            .expr(expression)
            .legend_format(legend)
            .ref_id(chr(ord("A") + number))
        )
        panel = panel.with_target(query.instant() if instant else query.range())
    return panel


def steps(*points: tuple[float, str], base: str = "green") -> Any:
    values = [Threshold(value=None, color=base)]
    values += [Threshold(value=value, color=color) for value, color in points]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(values)


def number(
    title: str,
    expression: str,
    unit: str,
    text: str,
    *,
    thresholds: Any = None,
    decimals: float | None = None,
    instant: bool = True,
) -> Any:
    """One figure; `instant` for what covers the whole range, else with its course as a background line."""
    panel = (
        stat.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .span(4)
        .height(4)
        .no_value("-")
        .thresholds(thresholds or steps())
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE if instant else BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return targets(panel, [(expression, title)], instant=instant)


def lines(
    title: str,
    queries: Iterable[Query],
    unit: str,
    text: str,
    *,
    span: int = 8,
    stack: StackingMode | None = None,
    bars: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
) -> Any:
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .span(span)
        .height(8)
        .show_points(VisibilityMode.NEVER)
        .fill_opacity(60 if stack or bars else 8)
        .line_width(1)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if minimum is not None:
        panel = panel.min(minimum)
    if maximum is not None:
        panel = panel.max(maximum)
    if bars:
        panel = panel.draw_style(GraphDrawStyle.BARS)
    if stack:
        panel = panel.stacking(common.StackingConfig().mode(stack).group("A"))
    return targets(panel, queries)


def ranking(
    title: str, expression: str, unit: str, text: str, *, thresholds: Any, decimals: float
) -> Any:
    """One bar a strategy, over the whole range of the dashboard."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .decimals(decimals)
        .span(8)
        .height(8)
        .orientation(VizOrientation.HORIZONTAL)
        .display_mode(BarGaugeDisplayMode.BASIC)
        .name_placement(BarGaugeNamePlacement.LEFT)
        .thresholds(thresholds)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    return targets(panel, [(f"sort_desc({expression})", "{{strategy}}")], instant=True)


def spread(title: str, metric: str, text: str) -> Any:
    panel = heatmap.Panel().title(title).description(text).span(8).height(8)
    query = (
        prometheus.Dataquery()
        .expr(increase(f"{metric}_bucket", "$__rate_interval", "le"))
        .legend_format("{{le}}")
        .format(PromQueryFormat.HEATMAP)
        .range()
        .ref_id("A")
    )
    return panel.datasource(SOURCE).with_target(query)


def percentiles(title: str, metric: str, text: str) -> Any:
    return lines(
        title,
        [(quantile(0.5, metric), "p50"), (quantile(0.99, metric), "p99")],
        "s",
        text,
    )


def at_a_glance() -> list[Any]:
    red_above_zero = steps((1, "red"))
    return [
        number(
            "Decisions per second",
            rate("decisions_total"),
            "ops",
            "Committed decisions.",
            instant=False,
            decimals=1,
        ),
        number(
            "Decision latency p99",
            quantile(0.99, "decision_seconds"),
            "s",
            "Signal received until its decision is committed.",
            thresholds=steps((0.1, "orange"), (0.25, "red")),
            instant=False,
        ),
        number(
            "Consumer lag",
            f"sum({latest('consumer_lag', 'max', 'topic, partition')})",
            "short",
            "Records of all input topics that wait.",
            thresholds=steps((1000, "orange"), (10000, "red")),
            instant=False,
            decimals=0,
        ),
        number(
            "Net R",
            net_r("$__range"),
            "suffix: R",
            "R gained less R lost by trades closed in the range (1 R is one ATR, unless REWARD_UNIT is risk).",
            thresholds=steps((0, "green"), base="red"),
            decimals=1,
        ),
        number(
            "Mean R per trade",
            mean_r("$__range"),
            "suffix: R",
            "Net R over closed trades in the range.",
            thresholds=steps((0, "green"), base="red"),
            decimals=2,
        ),
        number(
            "Win rate",
            win_rate("$__range"),
            "percentunit",
            "Share of closed trades in the range with R above 0.",
            thresholds=steps(base="blue"),
            decimals=1,
        ),
        number(
            "Workers up",
            'sum(up{job=~"$job"})',
            "short",
            "Workers that Prometheus can reach.",
            thresholds=steps((1, "green"), base="red"),
            decimals=0,
            instant=False,
        ),
        number(
            "Degraded workers",
            latest("degraded"),
            "short",
            "Workers that decide from a table Redis has not confirmed lately.",
            thresholds=red_above_zero,
            decimals=0,
            instant=False,
        ),
        number(
            "Dead letters",
            f"{increase('dead_letters_total', '$__range')} or vector(0)",
            "short",
            "Records of the range that nobody could use.",
            thresholds=steps((1, "orange")),
            decimals=0,
        ),
        number(
            "Rewinds",
            increase("rewinds_total", "$__range"),
            "short",
            "Times Redis was found behind and the table folded again from the logs.",
            thresholds=steps((1, "orange")),
            decimals=0,
        ),
        number(
            "Fenced",
            increase("fenced_total", "$__range"),
            "short",
            "Times a worker was replaced, or too slow, and gave its partitions up.",
            thresholds=steps((5, "orange")),
            decimals=0,
        ),
        number(
            "Skipped records",
            f"{increase('skipped_total', '$__range')} or vector(0)",
            "short",
            "Records that were gone from Kafka before they were read.",
            thresholds=red_above_zero,
            decimals=0,
        ),
    ]


def choices() -> list[Any]:
    return [
        lines(
            "Decisions by strategy",
            [(rate("decisions_total", "strategy"), "{{strategy}}")],
            "ops",
            "Committed decisions per second.",
            stack=StackingMode.NORMAL,
        ),
        lines(
            "Regime mix",
            [(rate("signals_total", "regime"), "{{regime}}")],
            "ops",
            "Share of each regime in the signals.",
            stack=StackingMode.PERCENT,
        ),
        lines(
            "Mode mix",
            [(rate("decisions_total", "mode"), "{{mode}}")],
            "ops",
            "Share of explore, exploit, heuristic (cold start) and default (disabled).",
            stack=StackingMode.PERCENT,
        ),
        lines(
            "Explore share and epsilon",
            [
                (
                    share(
                        rate("decisions_total", labels='mode="explore"'),
                        f"({rate('decisions_total')} > 0)",
                    ),
                    "explore share",
                ),
                (latest("epsilon", "max"), "epsilon"),
            ],
            "percentunit",
            "With epsilon_greedy the share follows epsilon as set, less what decay takes away as contexts fill; "
            "others explore what may be the best.",
        ),
        lines(
            "Signals and decisions",
            [(rate("signals_total"), "signals"), (rate("decisions_total"), "decisions")],
            "ops",
            "The two should be one line.",
        ),
        lines(
            "Open decisions",
            [(latest("open_decisions"), "open")],
            "short",
            "Decisions whose trade has not been closed yet.",
        ),
    ]


def results() -> list[Any]:
    window = "$__rate_interval"
    gain = increase("reward_gain_r_total", window, "strategy")
    loss = increase("reward_loss_r_total", window, "strategy")
    sign = steps((0, "green"), base="red")
    return [
        lines(
            "R gained and lost by strategy",
            [(gain, "{{strategy}} gained"), (f"-{loss}", "{{strategy}} lost")],
            "suffix: R",
            "R of trades as they close: gains above the line, losses below.",
            bars=True,
            stack=StackingMode.NORMAL,
            minimum=None,
            span=16,
        ),
        lines(
            "Closed trades by outcome",
            [(increase("rewards_total", window, "outcome"), "{{outcome}}")],
            "short",
            "excluded: counted, not learned. revised: a correction of an earlier trade.",
            bars=True,
            stack=StackingMode.NORMAL,
        ),
        ranking(
            "Net R by strategy",
            net_r("$__range", "strategy"),
            "suffix: R",
            "R gained less R lost over the range.",
            thresholds=sign,
            decimals=1,
        ),
        ranking(
            "Mean R by strategy",
            mean_r("$__range", "strategy"),
            "suffix: R",
            "Net R over closed trades of the range.",
            thresholds=sign,
            decimals=2,
        ),
        ranking(
            "Win rate by strategy",
            win_rate("$__range", "strategy"),
            "percentunit",
            "Share of trades with R above 0.",
            thresholds=steps(base="blue"),
            decimals=1,
        ),
        spread("Distribution of R", "reward_r", "Closed trades by their R."),
        lines(
            "Net R by regime",
            [(net_r(window, "regime"), "{{regime}}")],
            "suffix: R",
            "R gained less R lost as trades close.",
            bars=True,
            stack=StackingMode.NORMAL,
            minimum=None,
        ),
        lines(
            "Attribution of closed trades",
            [(increase("attributions_total", window, "attribution"), "{{attribution}}")],
            "short",
            "How the decision of a closed trade was found; `symbol` means the executor sent no decision_id.",
            bars=True,
            stack=StackingMode.NORMAL,
        ),
        lines(
            "Price paths of closed trades",
            [(increase("paths_total", window, "outcome"), "{{outcome}}")],
            "short",
            "Refused ones have prices of something else; their rewards count all the same.",
            bars=True,
            stack=StackingMode.NORMAL,
        ),
        lines(
            "Do paths agree with what was earned?",
            [
                (latest("path_gap_r", "max", "instance"), "difference {{instance}}"),
                (latest("paths_trusted", "min", "instance"), "believed {{instance}}"),
            ],
            "short",
            "Mean difference [R] of the worst account; from 0.15 on its paths are not believed (0).",
        ),
        lines(
            "Strategies that changed",
            [(latest("drifting_arms", "sum", "instance"), "{{instance}}")],
            "short",
            "Arms that lately earn something else than over all: the log names them.",
        ),
        lines(
            "What partitions told each other",
            [(latest("pool_offset", "max", "instance"), "{{instance}}")],
            "short",
            "Offset up to which a worker has read the pool's log: workers stand at the same one, but for a second.",
        ),
        lines(
            "Signals followed on paper",
            [
                (latest("followed_signals"), "open now"),
                (increase("followed_total", window, "outcome"), "{{outcome}}"),
            ],
            "short",
            "Only with a candles topic. `late`: candles were ahead of the signal; `unseen`: none came.",
        ),
        lines(
            "Candles",
            [(increase("candles_total", window, "outcome"), "{{outcome}}")],
            "short",
            "Candles that were read; `followed` and `gap` are taken, the others passed over.",
            bars=True,
            stack=StackingMode.NORMAL,
        ),
        percentiles(
            "Time in a regime",
            "regime_dwell_seconds",
            "From one flip of a market's regime to the next, by signal times.",
        ),
    ]


def speed() -> list[Any]:
    return [
        percentiles(
            "Decision latency",
            "decision_seconds",
            "Signal received until its decision is committed.",
        ),
        percentiles(
            "End-to-end latency",
            "end_to_end_seconds",
            "The signal's own ts until committed; includes the clock difference to the executor.",
        ),
        percentiles(
            "Redis latency",
            "redis_seconds",
            "Round trips to Redis; none lies between a signal and its decision.",
        ),
        lines(
            "Transactions by outcome",
            [(rate("transactions_total", "outcome"), "{{outcome}}")],
            "ops",
            "Kafka transactions per second.",
        ),
        lines(
            "Consumer lag by topic",
            [
                (
                    f"sum by (topic) ({latest('consumer_lag', 'max', 'topic, partition')})",
                    "{{topic}}",
                )
            ],
            "short",
            "Records that wait. Closed trades wait on purpose while Redis is away.",
        ),
        lines(
            "Assigned partitions by worker",
            [(latest("assigned_partitions", "sum", "instance"), "{{instance}}")],
            "short",
            "A change is a rebalance.",
            stack=StackingMode.NORMAL,
        ),
    ]


def faults() -> list[Any]:
    window = "$__rate_interval"
    return [
        lines(
            "Dead letters by reason",
            [(increase("dead_letters_total", window, "topic, reason"), "{{topic}}: {{reason}}")],
            "short",
            "Read them with: meta-strategy dead-letters list",
            bars=True,
            stack=StackingMode.NORMAL,
        ),
        lines(
            "Duplicates by topic",
            [(increase("duplicates_total", window, "topic"), "{{topic}}")],
            "short",
            "Ids seen before: counted, not answered again.",
            bars=True,
            stack=StackingMode.NORMAL,
        ),
        lines(
            "Rewinds, fenced, skipped",
            [
                (increase("rewinds_total", window), "rewinds"),
                (increase("fenced_total", window), "fenced"),
                (increase("skipped_total", window, "topic"), "skipped {{topic}}"),
            ],
            "short",
            "What should stay at zero, but for a fence when a worker is replaced.",
            bars=True,
        ),
        lines(
            "Degraded by worker",
            [(latest("degraded", "max", "instance"), "{{instance}}")],
            "short",
            "1 while decisions are made from a table that Redis has not confirmed lately.",
            maximum=1,
        ),
        lines(
            "Processor by worker",
            [(f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])", "{{instance}}")],
            "percentunit",
            "Share of one core; a worker has one event loop and cannot use more. Near 100 %: add workers.",
        ),
        builds(),
    ]


def builds() -> Any:
    panel = (
        stat.Panel()
        .title("Builds running")
        .description("Workers of each build; two builds outside an upgrade mean that it got stuck.")
        .span(8)
        .height(8)
        .text_mode(BigValueTextMode.NAME)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    expression = f"count without (instance, job, pod, namespace, container, endpoint) ({selector('build_info')})"
    return targets(panel, [(expression, "")], instant=True)


def build() -> dict[str, Any]:
    board = (
        dashboard.Dashboard("Meta-strategy selector")
        .uid("meta-strategy")
        .tags(["meta-strategy"])
        .description(
            "Decisions, their results, and the health of the workers. Written by deploy/grafana/dashboard.py."
        )
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotations([])
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("job")
            .label("Deployment")
            .datasource(SOURCE)
            .query("label_values(meta_strategy_build_info, job)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .include_all(True)
            .multi(True)
            .current({"selected": True, "text": ["All"], "value": ["$__all"]})
        )
    )
    rows = {
        "At a glance": at_a_glance,
        "Choices": choices,
        "Results": results,
        "Speed": speed,
        "Faults": faults,
    }
    ids = itertools.count(1)
    for title, panels in rows.items():
        board = board.with_row(dashboard.Row(title).id(next(ids)))
        for panel in panels():
            board = board.with_panel(panel.id(next(ids)))
    return json.loads(json.dumps(board.build(), cls=JSONEncoder))


def render() -> str:
    return json.dumps(build(), indent=2, sort_keys=True) + "\n"


def main() -> int:
    text = render()
    if "--check" in sys.argv[1:]:
        fresh = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        print(
            f"{TARGET.name}: {'up to date' if fresh else 'stale, run deploy/grafana/dashboard.py'}"
        )
        return 0 if fresh else 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
