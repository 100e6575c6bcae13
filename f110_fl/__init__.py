"""Federated reinforcement learning for F1TENTH racing: configuration, learners, training."""
