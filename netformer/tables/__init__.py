"""Tables: what users hold. Files become DataFrames, and a DataFrame becomes numbers.

Read `files` first, with `encodings` and `delimited` for text, then `intake` and `reading`.
"""
