"""Tables: what users hold. Files become DataFrames, and a DataFrame becomes numbers.

Read `files` first, then `intake` and `reading`.
"""
