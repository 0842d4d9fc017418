"""Tasks: data sets to be solved, where they come from, and the canonical view in which every network reads them.

Read `task`, then `view`; `families` and `stream` draw random ones, `real` holds the tables used for evaluation only.
"""
