"""A run: its plan, directory, processes."""
