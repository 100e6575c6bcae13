"""Learning algorithms behind one protocol."""
