"""The simulated world: virtual time, a network model, faults and the simulation."""
