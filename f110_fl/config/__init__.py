"""The settings of a scenario."""
