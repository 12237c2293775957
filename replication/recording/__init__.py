"""``replicate record``: full-scale results made in many sittings, and kept in recorded/.

- ``session``: works through the queue; ``jobs``: one job in a process of its own; ``queue``: what is recorded, in which order.
- ``archives``: results as few files and back; ``keep``: what may be kept in recorded/; ``listing``: the queue as a table.
"""
