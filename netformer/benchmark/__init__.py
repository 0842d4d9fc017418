"""Benchmark: tables as users hold them, the learners that read them, and ours beside those.

Read `mixed` first, where the tables come from; then `learners`, then `standing`; `coverage` is of intervals.
"""
