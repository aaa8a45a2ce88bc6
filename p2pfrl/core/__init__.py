"""What every room shares: types, errors, random streams, parameters, units and the wire."""
