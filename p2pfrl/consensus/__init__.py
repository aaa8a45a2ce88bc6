"""How agents agree: topologies, mixing, aggregators, coordinator, schedules, and the theory that predicts them."""
