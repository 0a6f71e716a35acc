"""Kafka's coordinator of transactions, as far as the worker depends on it.

Plain state, no I/O: a request is a method that answers or raises the client's own error. Tested
against a real broker by the same scenarios (tests/contract/test_log.py).
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerFenced,
)

from tests.simulation.log import ABORTED, Fate, GroupOffset, Log, NewRecord, Transaction

Later = Callable[[float | None, Callable[[], None]], object]
"""Calls back after a delay [s]; None: a short one of the scheduler's choice."""


@dataclass(slots=True)
class Producer:
    """What the coordinator knows of a transactional id."""

    producer_id: int
    epoch: int = -1
    transaction: Transaction | None = None
    last_fate: Fate | None = None
    sequences: dict[TopicPartition, tuple[int, list[int]]] = field(default_factory=dict)
    """By log: an epoch, and the first offset of each batch that was sent with it."""


def _ignore(_: object) -> None:
    """Tell nobody."""


class Broker:
    """All logs, all transactional ids, and the offsets of the group.

    Args:
        later: How markers and timeouts are put off.
    """

    def __init__(self, later: Later) -> None:
        self._later = later
        self._numbers = itertools.count(1)
        self.logs: dict[TopicPartition, Log] = {}
        self.partitions: dict[str, int] = {}
        self.producers: dict[str, Producer] = {}
        self.offsets: dict[TopicPartition, GroupOffset] = {}
        self.on_decided: Callable[[Transaction], None] = _ignore
        """Told of each transaction at the moment from which it will be committed."""
        self.on_offsets: Callable[[Mapping[TopicPartition, GroupOffset]], None] = _ignore
        """Told which offsets of the group hold from now on."""

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic."""
        self.partitions[name] = partitions
        for number in range(partitions):
            log = TopicPartition(name, number)
            self.logs[log] = Log(log)

    # Transactions

    def init_producer_id(self, owner: str, timeout_s: float) -> tuple[int, int]:
        """Give producer id and epoch; what the former epoch left open is aborted first.

        Raises:
            ConcurrentTransactions: Not yet; ask again.
        """
        known = self.producers.get(owner)
        if known is None:
            known = self.producers[owner] = Producer(next(self._numbers))
        if known.transaction is not None:
            if known.transaction.fate is Fate.OPEN:
                known.epoch += 1
                self._decide(known, Fate.ABORTING)
            raise ConcurrentTransactions
        known.epoch += 1
        known.last_fate = None
        return known.producer_id, known.epoch

    def _known(self, owner: str, producer_id: int, epoch: int) -> Producer:
        known = self.producers.get(owner)
        if known is None or known.producer_id != producer_id:
            raise InvalidProducerIdMapping
        if epoch != known.epoch:
            raise ProducerFenced
        return known

    def _begun(self, known: Producer, owner: str, timeout_s: float) -> Transaction:
        found = known.transaction
        if found is None:
            found = known.transaction = Transaction(owner)
            known.last_fate = None
            epoch = known.epoch
            self._later(timeout_s, lambda: self._time_out(known, found, epoch))
        elif found.fate is not Fate.OPEN:
            raise ConcurrentTransactions
        return found

    def _time_out(self, known: Producer, transaction: Transaction, epoch: int) -> None:
        if known.transaction is transaction and transaction.fate is Fate.OPEN:
            known.epoch = epoch + 1
            self._decide(known, Fate.ABORTING)

    def add_partitions(
        self,
        owner: str,
        producer_id: int,
        epoch: int,
        logs: Iterable[TopicPartition],
        timeout_s: float,
    ) -> None:
        """Let logs be written in the transaction, which begins with the first.

        Raises:
            ConcurrentTransactions: The one before is not over yet; ask again.
            ProducerFenced, InvalidProducerIdMapping: Another producer took the id over.
        """
        known = self._known(owner, producer_id, epoch)
        self._begun(known, owner, timeout_s).logs.update(logs)

    def add_offsets(self, owner: str, producer_id: int, epoch: int, timeout_s: float) -> None:
        """Let the group's offsets be committed in the transaction; raises as `add_partitions`."""
        known = self._known(owner, producer_id, epoch)
        self._begun(known, owner, timeout_s).has_group = True

    def produce(
        self,
        owner: str,
        producer_id: int,
        epoch: int,
        batches: Iterable[tuple[TopicPartition, int, Sequence[NewRecord]]],
    ) -> list[int]:
        """Append batches, each with its number in its log; a repeated one is appended once.

        Returns:
            The first offset of each.

        Raises:
            ProducerFenced, InvalidProducerIdMapping: Another producer took the id over.
            InvalidTxnState: The log does not belong to the transaction.
        """
        known = self._known(owner, producer_id, epoch)
        transaction = known.transaction
        firsts = []
        for name, number, records in batches:
            if transaction is None or transaction.fate is not Fate.OPEN:
                raise InvalidTxnState
            if name not in transaction.logs:
                raise InvalidTxnState
            last_epoch, sent = known.sequences.get(name, (epoch, []))
            if last_epoch != epoch:
                sent = []
            if number > len(sent):
                raise OutOfOrderSequenceNumber
            if number == len(sent):
                sent.append(self.logs[name].append(records, transaction))
                known.sequences[name] = (epoch, sent)
            firsts.append(sent[number])
        return firsts

    def txn_offset_commit(
        self,
        owner: str,
        producer_id: int,
        epoch: int,
        offsets: Mapping[TopicPartition, tuple[int, str]],
    ) -> None:
        """Leave offsets to be committed with the transaction.

        Raises:
            ProducerFenced, InvalidProducerIdMapping: Another producer took the id over.
            InvalidTxnState: The group does not belong to the transaction.
        """
        known = self._known(owner, producer_id, epoch)
        transaction = known.transaction
        if transaction is None or transaction.fate is not Fate.OPEN or not transaction.has_group:
            raise InvalidTxnState
        for name, (offset, metadata) in offsets.items():
            transaction.offsets[name] = GroupOffset(offset, metadata, next(self._numbers))

    def end_transaction(self, owner: str, producer_id: int, epoch: int, *, commit: bool) -> None:
        """Commit or abort; a repeated request is answered as the first.

        Raises:
            ConcurrentTransactions: It was decided so, and is not over yet; ask again.
            InvalidTxnState: There is none, or it was decided otherwise.
            ProducerFenced, InvalidProducerIdMapping: Another producer took the id over.
        """
        known = self._known(owner, producer_id, epoch)
        transaction = known.transaction
        if transaction is None:
            if known.last_fate is not (Fate.COMMITTED if commit else Fate.ABORTED):
                raise InvalidTxnState
            return
        wanted = Fate.COMMITTING if commit else Fate.ABORTING
        if transaction.fate is Fate.OPEN:
            self._decide(known, wanted)
        elif transaction.fate is wanted:
            raise ConcurrentTransactions
        else:
            raise InvalidTxnState

    def _decide(self, known: Producer, fate: Fate) -> None:
        """Decide a transaction; its markers follow, log by log, and the group's offsets."""
        transaction = known.transaction
        assert transaction is not None
        transaction.fate = fate
        if fate is Fate.COMMITTING:
            self.on_decided(transaction)
        waiting = [*sorted(transaction.logs), *([None] if transaction.has_group else [])]

        def mark(name: TopicPartition | None) -> None:
            if name is None:
                if fate is Fate.COMMITTING:
                    self._materialise(transaction)
            else:
                self._marked(transaction, fate, name)
            waiting.remove(name)
            if not waiting:
                transaction.fate = known.last_fate = (
                    Fate.COMMITTED if fate is Fate.COMMITTING else Fate.ABORTED
                )
                known.transaction = None

        for name in tuple(waiting):  # a marker takes its name out
            self._later(None, functools.partial(mark, name))

    def _marked(self, transaction: Transaction, fate: Fate, name: TopicPartition) -> None:
        log = self.logs[name]
        if fate is Fate.ABORTING:
            # aborted in this log from its marker on; readers never see what is before it undecided
            log.entries = [
                (record, ABORTED if other is transaction and record is not None else other)
                for record, other in log.entries
            ]
        log.mark(transaction)

    def _materialise(self, transaction: Transaction) -> None:
        taken = {
            name: found
            for name, found in transaction.offsets.items()
            if name not in self.offsets or self.offsets[name].place < found.place
        }
        self.offsets.update(taken)
        self.on_offsets(taken)

    # What needs no transaction

    def commit_offsets(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Commit a group's offsets; who may is the group's business."""
        found = {
            name: GroupOffset(offset, metadata, next(self._numbers))
            for name, (offset, metadata) in offsets.items()
        }
        self.offsets.update(found)
        self.on_offsets(found)
