"""Sources: a delivered network as a file that needs nothing of this package: C, Python, JSON.

Read `formats` first, then `c` and `python`.
"""
