"""The core: types, errors, random streams, parameters, state, units and the wire."""
