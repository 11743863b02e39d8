"""Sentences that keep to what is asked: what they say, how long they are, which words stand there."""

import inkwash
from inkwash.systems.language.controls import parse_constraints

writer = inkwash.load("e2e-masked")
for constraints in (
    parse_constraints(fields=["food=Italian", "area=riverside"]),
    parse_constraints(fields=["food=Italian"], length=10),
    parse_constraints(infill="The _ is a _ near the river."),
):
    for sentence in writer.write(3, constraints, seed=30):
        print(sentence)
    print()
