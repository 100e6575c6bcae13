"""Trained policies as files for other programs, and the proof that they act alike."""
