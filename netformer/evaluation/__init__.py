"""Evaluation: every reported number, and the methods ours is compared with.

Read `scored` first (who reads which rows), then `reported`.
"""
