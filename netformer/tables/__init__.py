"""Tables: what users hold. Files become DataFrames, and a DataFrame becomes numbers.

Read `files` first, with `encodings` and `delimited` for text, then `reading` with `columns`, `inputs` and `scaling`;
`intake` joins the two for the command line.
"""
