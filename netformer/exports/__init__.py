"""Exports: the networks delivered for a table, as a folder and in the formats they leave in.

Read `population` first, then `formats`.
"""
