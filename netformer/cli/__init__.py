"""Command line: `netformer generate, inspect, predict, export, evaluate, search, info`.

Read `app` first.
"""
