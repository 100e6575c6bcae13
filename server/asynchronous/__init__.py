"""Rounds of one reply, which no client waits for."""
