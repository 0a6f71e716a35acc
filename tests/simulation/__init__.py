"""The worker's own code on simulated servers, in simulated time, under seeded faults."""
