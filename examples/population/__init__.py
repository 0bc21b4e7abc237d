"""A seeded population whose truth is known: who is who, and what each may be used for.

`people.py` makes up persons and their devices, `lives.py` what they do, `delivery.py` how it
arrives (late, twice, out of order), and `truth.py` what a perfect system would know of them.
`closure.py` works out who is whom by a workspace's rules, and `agreement.py` compares groupings. It
imports nothing of Koseki, so that tests and measurements may be judged by it.

    python -m examples.population --people 1000 --seed 7 --out FOLDER
"""
