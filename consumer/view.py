"""The view in the settings' Redis, and writing a whole partition of it."""

from collections.abc import Callable

from consumer.domain.partition_state import PartitionState
from consumer.domain.stored import Position
from consumer.errors import RefusedError
from consumer.ports import WriteAnswer
from consumer.settings import Settings
from consumer.store.client import BULK_TIMEOUT_S, connect
from consumer.store.meta import Meta
from consumer.store.redis_view import RedisView


def make_view(
    settings: Settings, partitions: int, observe: Callable[[float], None] = lambda _: None
) -> RedisView:
    """Make the view of the settings' Redis; nothing is sent yet."""
    url, cluster = settings.redis_url.get_secret_value(), settings.redis_cluster
    return RedisView(
        connect(url, cluster=cluster),
        connect(url, cluster=cluster, timeout_s=BULK_TIMEOUT_S),
        prefix=settings.meta_strategy_key_prefix,
        meta=Meta(
            settings.fold,
            partitions,
            settings.topics,
        ),
        observe=observe,
    )


async def rewrite(view: RedisView, number: int, state: PartitionState) -> None:
    """Replace all that the view holds of a partition.

    Raises:
        RefusedError: Another process writes it, too.
        TransientError: Redis does not answer.
    """
    state.touch_all()
    answer = await view.rewrite(view.prepare(number, state, Position()))
    if answer is not WriteAnswer.APPLIED:
        raise RefusedError(f"partition {number}: somebody else is writing the table")
