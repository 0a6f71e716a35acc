"""Is the worker alive, and is it ready?"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Health:
    """What the probes say; written by the worker, read by the endpoints."""

    is_member: bool = False
    """Whether the group has given an assignment that still holds."""
    assigned: set[int] = field(default_factory=set)
    opened: set[int] = field(default_factory=set)
    kafka_error: str | None = "Kafka was not asked yet"
    redis_error: str | None = "Redis was not asked yet"
    is_stopping: bool = False

    def reasons(self) -> list[str]:
        """Say why the worker is not ready; empty when it is."""
        found = []
        if self.is_stopping:
            found.append("the worker is stopping")
        if self.kafka_error is not None:
            found.append(f"kafka: {self.kafka_error}")
        if self.redis_error is not None:
            found.append(f"redis: {self.redis_error}")
        if not self.is_member:
            found.append("no member of the consumer group")
        if closed := sorted(self.assigned - self.opened):
            found.append(f"partitions not open yet: {', '.join(map(str, closed))}")
        return found
