"""What an opening must stand, each at the very moment that a schedule of faults once hit."""

from collections.abc import Callable
from random import Random

from aiokafka import TopicPartition

from tests.simulation.cluster import DEAD_LETTERS, DECISIONS, SIGNALS, TRADES, Cluster
from tests.simulation.log import NewRecord
from tests.simulation.oracle import Watch
from tests.simulation.view import Store
from tests.simulation.worker import SimulatedWorker, simulated_clients

FORMER = "meta-strategy-worker-former"


def run_worker(prepare: Callable[[Cluster], None], until: Callable[[Cluster], bool]) -> str | None:
    """Run one worker until something is true, or it ends by itself; say why it did."""
    with simulated_clients():
        cluster = Cluster(Random(1))
        for topic in (SIGNALS, TRADES, DECISIONS, DEAD_LETTERS):
            cluster.broker.create_topic(topic, 1)
        prepare(cluster)
        problems: list[str] = []
        worker = SimulatedWorker(
            cluster, Store(cluster, Watch(cluster.broker, problems.append)), "w"
        )

        def look() -> None:
            if worker.main.done() or until(cluster):
                cluster.loop.end()
            elif cluster.loop.time() < 60.0:
                cluster.loop.outside(0.1, look)
            else:
                problems.append("nothing happened for a minute")
                cluster.loop.end()

        look()
        cluster.loop.run()
        failure = worker.failure
        cluster.loop.close()
    if failure is not None:
        return repr(failure)
    return problems[0] if problems else None


def test_a_former_owner_may_pass_new_records_until_he_is_shut_out() -> None:
    """The log's end must not be older than the offset it is compared with."""
    log = TopicPartition(SIGNALS, 0)

    def prepare(cluster: Cluster) -> None:
        broker = cluster.broker
        broker.commit_offsets({log: (0, FORMER)})
        take_over = broker.init_producer_id

        def init_producer_id(owner: str, timeout_s: float) -> tuple[int, int]:
            if owner == FORMER and broker.logs[log].end == 0:
                broker.logs[log].append([NewRecord(None, b"{", (), 0)], None)
                broker.commit_offsets({log: (1, FORMER)})
            return take_over(owner, timeout_s)

        broker.init_producer_id = init_producer_id  # type: ignore[method-assign]

    def is_claimed(cluster: Cluster) -> bool:
        held = cluster.broker.offsets[log]
        return held.metadata != FORMER and held.offset == 1

    assert run_worker(prepare, is_claimed) is None
