"""bytewax, at least once: `python -m bytewax.run bench.peers.bytewax_worker:flow`.

It takes no part in a consumer group and writes no transactions; without its own recovery store, as here,
it starts again from the beginning.
"""

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow
from redis import Redis

from bench.environment import BATCH, BOOTSTRAP_SERVERS, DECISIONS, REDIS_URL, SIGNALS, TRADES
from bench.ordinary_job import FOLD, OrdinaryJob

_redis = Redis.from_url(REDIS_URL)
_job = OrdinaryJob(_redis.script_load(FOLD))


def _work_off(messages: list[KafkaSourceMessage]) -> list[KafkaSinkMessage]:
    return [
        KafkaSinkMessage(key=source.key, value=value, headers=headers)
        for source, value, headers in _job.work_off_blocking(_redis, messages)
    ]


flow = Dataflow("meta-strategy")
_read = kafka.input(
    "read", flow, brokers=[BOOTSTRAP_SERVERS], topics=[SIGNALS, TRADES], batch_size=BATCH
)
_decisions = op.flat_map_batch("decide", _read.oks, _work_off)
kafka.output(
    "write",
    _decisions,
    brokers=[BOOTSTRAP_SERVERS],
    topic=DECISIONS,
    # as the producers of a deployment must: it names no partition itself
    add_config={"partitioner": "murmur2_random"},
)
