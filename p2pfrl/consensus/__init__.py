"""Consensus: topologies, mixing rules, aggregators, the coordinator, schedules and their theory."""
