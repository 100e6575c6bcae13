"""Dynamics, sensing and contact, compiled."""
