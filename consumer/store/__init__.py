"""Where partition states are kept."""
