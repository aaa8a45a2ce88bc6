"""LAN runtime: processes that run agents and communicate over TCP."""
