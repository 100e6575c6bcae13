"""Kinds of tracks."""
