"""Feature extractors of the recognition experiments."""
