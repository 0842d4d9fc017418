"""Benchmark: tables as users hold them, the learners that read them, and ours beside those.

Read `mixed` first, where the tables come from, and `class_tables`, where the target is a class; then `learners`, then
`standing`; `coverage` is of intervals, `class_scores` says how good probabilities are. Of one table of a user: `folds`,
`beside`, `scoring`, and `held_out`, the scores.
"""
