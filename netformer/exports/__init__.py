"""Exports: the networks delivered for a table: stored, predicted with, explained, and as objects of other libraries.

Read `population` first, then `formula`, the one form that `netformer.sources` writes as files.
"""
