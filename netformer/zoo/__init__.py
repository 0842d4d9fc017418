"""Zoo: thousands of small networks, trained on random tasks.

Read `build` first; `kernel` is its compiled engine, `schedule` the learning rate, `load` opens a finished zoo.
"""
