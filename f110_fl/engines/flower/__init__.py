"""Flower's own programs: how they are started, and what is used of Flower beyond its promises."""
