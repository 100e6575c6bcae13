"""What server and clients agree on."""
