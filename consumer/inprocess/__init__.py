"""The same rules in process, without Kafka or Redis.

Every rule is the worker's own class; what is added here is the table in memory, its file, and the
calls of a trading process. Objects of this package belong to one thread, such as that of a loop.
"""
