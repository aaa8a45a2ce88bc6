"""Decentralized federated reinforcement learning: simulate it exactly, then deploy it unchanged."""

__version__ = "0.1.0"
