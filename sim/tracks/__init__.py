"""Tracks: occupancy, distance field, centre line, spawns."""
