"""The command line: `meta-strategy`."""

import gc
import logging
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import version

import click

from consumer.errors import MetaStrategyError, SettingsError

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "worker": ("consumer.cli.worker:worker", "Decide signals and learn from closed trades."),
    "demo": ("consumer.cli.demo:demo", "Replay real market bars through a worker."),
    "topics": (
        "consumer.cli.topics:topics",
        "Create the topics; migrate them to another partition count.",
    ),
    "qtable": ("consumer.cli.qtable:qtable", "Show, export, import or rebuild what was learned."),
    "dead-letters": ("consumer.cli.dead_letters:dead_letters", "Read and re-send refused records."),
    "backtest": ("lab.backtest_cli:backtest", "Try policies on market bars; write a report."),
    "evaluate": ("lab.evaluate_cli:evaluate", "Judge another policy by the decisions so far."),
    "replay": ("lab.cli:replay", "Make decisions again from the topics; compare them."),
    "schemas": ("consumer.cli.schemas:schemas", "Write the messages' schemas."),
    "doctor": ("consumer.cli.doctor:doctor", "Check settings, Kafka, topics and Redis."),
    "stack": ("consumer.cli.stack:stack", "Run Kafka and Redis on this machine."),
}


class _Commands(click.Group):
    """Loads a command's module when it is called: a start must not wait for the others'."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        # nothing of what is loaded is garbage: looking for it is a tenth of the start
        gc.disable()
        try:
            command: click.Command = getattr(import_module(module), name)
        finally:
            gc.enable()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("meta-strategy-selector"), prog_name="meta-strategy")
def cli() -> None:
    """Choose a take-profit and stop-loss strategy for each trading signal, exactly once."""


def main() -> None:
    """Run the command line; errors of ours are one line, never a traceback."""
    # what the client says of a server that is away, ours says in one line; the worker logs it
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        cli()
    except SettingsError as error:
        click.echo(f"meta-strategy: {error}", err=True)
        sys.exit(2)
    except MetaStrategyError as error:
        click.echo(f"meta-strategy: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
