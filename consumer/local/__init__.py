"""Kafka, Redis and a paper executor on this machine, for demo and tests."""
