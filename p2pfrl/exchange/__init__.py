"""What leaves an agent: payloads, gates, privacy, compression, attacks."""
