"""The simulated world: virtual time, the network model, faults, and the simulation that runs agents in it."""
