"""What the stream package relies on in the pinned client."""

import inspect

import aiokafka
from aiokafka.producer import sender

from consumer.stream import ownership, transaction


def test_the_clients_wait_between_transactions_is_the_constant_that_is_set() -> None:
    """A module constant without an option: this fails when a new version stops using it."""
    assert aiokafka.__version__ == "0.14.0"
    assert sender.BACKOFF_OVERRIDE == 0.002
    assert "return BACKOFF_OVERRIDE" in inspect.getsource(sender.AddPartitionsToTxnHandler)


def test_no_transaction_outlives_its_time_at_the_broker() -> None:
    """Else its fate would be decided behind the worker's back while it still waits."""
    assert transaction.COMMIT_TIMEOUT_S * 1000 < ownership.TRANSACTION_TIMEOUT_MS
    assert transaction.SLOW_COMMIT_S < transaction.COMMIT_TIMEOUT_S
