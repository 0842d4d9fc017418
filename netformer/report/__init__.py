"""Report: pages and pictures of an evaluation.

Read `views` first: what the page of an evaluation shows; `page` and `svg` draw it.
"""
