"""Bench: the speed of every part as ratios measured in one run (`make bench`). Not in the wheel.

Read `machine` first.
"""
