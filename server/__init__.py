"""The Flower server."""
