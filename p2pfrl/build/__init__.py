"""The composition root: a scenario becomes agents, coordinators and a world."""
