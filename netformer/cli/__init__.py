"""Command line: `netformer generate, inspect, predict, export, evaluate, search, info`.

Read `app` first, whose functions are commands; `evaluate`, `search` and `by` hold the others. `arguments`, `folders`
and `console` are what commands share, `scores` and `describe` what they print. The page of `generate --report` is
`table_report`, with its sections in `trust` and `class_report`.
"""
