"""One module per published figure: ``quantities(tables)`` and ``draw(tables)``.

``tables[measurement][table]`` is a tidy table with a ``seed`` column; a measurement that was not recorded is absent.
"""
