"""``replicate record``: full-scale results made in many sessions, and kept in recorded/.

- ``session``: works through the queue; ``jobs``: one job in a process of its own; ``queue``: what is recorded, in
  which order, as a table too.
- ``archives``: folders of results as few zip files and back; ``keep``: copies finished tables into recorded/, checked.
"""
