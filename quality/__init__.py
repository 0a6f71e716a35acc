"""How well policies choose, beside bandit libraries (`make quality`)."""
