"""Commands of the command line, one function each: parse, call, print."""
