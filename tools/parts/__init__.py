"""What the tools are made of; no commands."""
