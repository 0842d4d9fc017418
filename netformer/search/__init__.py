"""Search: networks for one table by several objectives, where a candidate costs milliseconds because it is written and
not trained. Read `engine` first, then `spaces`.
"""
