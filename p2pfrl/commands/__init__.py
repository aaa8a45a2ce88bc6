"""What the command line offers, one function per command: it parses, calls and prints."""
