"""The end of a run: everything read back, and compared with the oracle."""

import asyncio
import gc
import multiprocessing
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from redis.asyncio import Redis, RedisCluster

from bench.broker import PARTITIONS
from chaos.clients import log_reader
from chaos.fold import Fold
from chaos.oracle import Findings, compare_rows, judge_candles, judge_partition, judge_pool
from chaos.replay import replay
from consumer.connection import TopicNames
from consumer.settings import Settings

_SILENCE_S = 60.0
View = dict[str, dict[str, str]]


async def read_logs(
    bootstrap_servers: str, logs: Sequence[TopicPartition]
) -> dict[str, list[ConsumerRecord]]:
    """Read what is committed of some logs that nobody writes to any more, by topic, by offset."""
    async with log_reader(bootstrap_servers, logs) as consumer:
        found: dict[str, list[ConsumerRecord]] = {log.topic: [] for log in logs}
        async with asyncio.timeout(_SILENCE_S * len(logs)):
            ends = await consumer.end_offsets(logs)
            while not await _is_at(consumer, ends):
                for log, records in (await consumer.getmany(timeout_ms=100)).items():
                    found[log.topic] += records
    return found


async def _is_at(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all([await consumer.position(log) >= end for log, end in ends.items()])


async def read_view(redis: Redis | RedisCluster, prefix: str) -> View:
    """Read every hash of a deployment."""
    keys = [key async for key in redis.scan_iter(f"{prefix}:*", count=5_000)]
    view: View = {}
    for start in range(0, len(keys), 500):
        part = keys[start : start + 500]
        pipeline = redis.pipeline(transaction=False)
        for key in part:
            pipeline.hgetall(key)
        view |= dict(zip(part, await pipeline.execute(), strict=True))
    return view


async def letters_of(bootstrap_servers: str, topics: TopicNames) -> Counter[tuple[str, int, int]]:
    """Count the dead letters by the place of the record they are about."""
    found: Counter[tuple[str, int, int]] = Counter()
    logs = [TopicPartition(topics.dead_letters, number) for number in range(PARTITIONS)]
    for record in (await read_logs(bootstrap_servers, logs))[topics.dead_letters]:
        headers = {name: value.decode() for name, value in record.headers}
        place = headers["dlq.topic"], int(headers["dlq.partition"]), int(headers["dlq.offset"])
        found[place] += 1
    return found


async def judge(
    bootstrap_servers: str,
    topics: TopicNames,
    view: View,
    *,
    prefix: str,
    window: int,
    settings: Settings,
) -> Findings:
    """Compare logs and table with the oracle; a partition for each core is in memory.

    Args:
        bootstrap_servers: Of the brokers.
        topics: The deployment's.
        view: Every hash in Redis.
        prefix: What every key starts with.
        window: Ids, rewards and open decisions that are remembered.
        settings: The workers', for the replay.
    """
    letters = await letters_of(bootstrap_servers, topics)
    loop, spawned = asyncio.get_running_loop(), multiprocessing.get_context("spawn")
    found = Findings()
    # a process each, so that what one read is given back and every core is used
    with ProcessPoolExecutor(mp_context=spawned, max_tasks_per_child=1) as processes:
        parts = [
            loop.run_in_executor(
                processes,
                _judge_one,
                number,
                bootstrap_servers,
                topics,
                {
                    key: row
                    for key, row in view.items()
                    if key.startswith(f"{prefix}:{{{number}}}:")
                },
                letters,
                prefix,
                window,
                settings,
            )
            for number in range(PARTITIONS)
        ]
        for part in asyncio.as_completed(parts):
            found.add(await part)
    return found


def _judge_one(
    number: int,
    bootstrap_servers: str,
    topics: TopicNames,
    view: View,
    letters: Counter[tuple[str, int, int]],
    prefix: str,
    window: int,
    settings: Settings,
) -> Findings:
    # millions of records that all stay: nothing to collect, and each look at them takes seconds
    gc.disable()
    found = Findings()
    names = [topics.signals, topics.decisions, topics.trades]
    names += [topics.candles] if topics.candles else []
    places = [*(TopicPartition(name, number) for name in names), TopicPartition(topics.pool, 0)]
    logs = asyncio.run(read_logs(bootstrap_servers, places))
    signals, decisions, trades, *candles = (logs[name] for name in names)
    fold = Fold(window=window, open_max=window)
    judge_partition(number, signals, decisions, trades, letters, fold=fold, found=found)
    papers = judge_candles(decisions, candles[0], letters, found) if candles else {}
    outcomes = sum(len(rewards) for row in papers.values() for rewards in row.values())
    judge_pool(number, decisions, logs[topics.pool], fold.learned + outcomes, found)
    compare_rows(number, prefix, fold, papers, view, found)
    differing = replay(settings, signals, decisions, trades)
    found.replayed += len(decisions)
    found.replays_differing += len(differing)
    for text in differing[:3]:
        found.note(text)
    return found
