"""Tracks: free space, walls, a centre line, spawn poses and a finish line."""
