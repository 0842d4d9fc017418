"""Exports: the networks delivered for a table, as a folder and in the formats of other programs.

Read `population` first, then `formats`.
"""
