"""Does the net hold? Faults are put into the passes and the cache one at a time, and the tests must notice.

    python -m tests.faults --seed 0 --count 200

draws them, runs for each the tests that execute the faulty line, and writes a table. ``docs/testing.md`` says what came
out.
"""
