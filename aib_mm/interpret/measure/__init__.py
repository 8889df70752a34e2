"""Numbers of maps: where they lie, whether they hold, what they tell."""
