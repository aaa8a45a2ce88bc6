"""Consensus: topologies, mixing, aggregators, coordinator, schedules and their theory."""
