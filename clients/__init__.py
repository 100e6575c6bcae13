"""The Flower client."""
