"""The ordinary job on other libraries, as their users write it; each runs in the bench environment."""
