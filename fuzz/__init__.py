"""Hostile input: a fuzzer of the decoders and of a batch's whole way; `python -m fuzz --help`."""
