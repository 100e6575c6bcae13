"""From files, variables and flags to a scenario."""
