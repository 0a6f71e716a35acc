"""Ways to choose an arm, one module each."""
