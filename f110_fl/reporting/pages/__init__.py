"""Pages to look at: each one HTML file that needs nothing else."""
