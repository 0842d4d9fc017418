"""Exports: delivered networks as a folder, and the formats they leave in.

Read `bundle` first, then `formats`.
"""
