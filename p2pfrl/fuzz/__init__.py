"""The fuzzer: random faults, attacks and rules around a scenario, with invariants that are checked.

`cases` makes a scenario of a seed, `execute` runs it under the checks of `checks`, `shrink` makes a
scenario that fails smaller, and `campaign` does so for many seeds, in several processes.
"""
