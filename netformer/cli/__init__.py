"""Command line: `netformer generate, inspect, predict, export, evaluate, info`.

Read `app` first.
"""
