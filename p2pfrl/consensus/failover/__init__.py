"""Failover: standbys of a coordinator, and what takes over when it dies."""
