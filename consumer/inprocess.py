"""The same rules in process, without Kafka or Redis."""
