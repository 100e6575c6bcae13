"""Fits a real car's parameters to a log of its driving."""
