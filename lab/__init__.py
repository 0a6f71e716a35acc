"""Off-line studies of decisions: made again, judged, tried on other data."""
