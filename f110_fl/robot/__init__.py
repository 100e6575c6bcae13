"""What runs on a car: a policy of files, with NumPy alone, and what keeps it safe."""
