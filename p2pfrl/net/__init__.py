"""The LAN runtime: processes that run agents and talk over TCP."""
