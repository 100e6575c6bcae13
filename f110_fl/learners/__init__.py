"""Reinforcement learners behind one protocol."""
