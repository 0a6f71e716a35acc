"""What a long study says of how far it is."""

import sys
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import click

T = TypeVar("T")


class Track(Protocol):
    """Passes items on, and shows how many are done."""

    def __call__(self, items: Iterable[T], label: str, total: int) -> Iterable[T]:
        """Give the items one by one; `total` is their number."""


def silent(items: Iterable[T], label: str, total: int) -> Iterable[T]:  # noqa: ARG001
    """Show nothing."""
    return items


def bar(items: Iterable[T], label: str, total: int) -> Iterator[T]:
    """Show a bar on the terminal's error stream; without a terminal, the label alone."""
    with click.progressbar(
        items,
        length=total,
        label=f"{label:<28}",
        file=sys.stderr,
        show_pos=True,
        show_eta=True,
        # drawing takes longer than most items
        update_min_steps=max(1, total // 200),
    ) as shown:
        yield from shown
