"""A SuperLink at which strangers can do nothing."""
