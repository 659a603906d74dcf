"""The live viewer in the browser.

Only ``server``, ``guarding`` and ``panel`` know viser; the rest needs no browser to be tested.
"""
