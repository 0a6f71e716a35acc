"""Another partition count: the logs sent to new topics, by key, and the table folded from them."""
