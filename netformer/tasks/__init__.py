"""Tasks: data sets to be solved, where they come from, and the canonical view in which every network reads them.

Read `task`, then `view`; `families` and `stream` draw random ones, `classes` those whose target is a class; `real`
holds tables used for evaluation only.
"""
