"""Kafka: batches in, transactions out."""
