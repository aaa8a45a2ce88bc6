"""Environments, learners, and the trainer that computes the updates of many agents at once."""
