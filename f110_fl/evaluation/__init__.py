"""What can be said of policies: statistics, leagues, ratings."""
