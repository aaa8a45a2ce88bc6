"""The exchange: payloads, gates, privacy, compression, attacks, inbox and outbox."""
