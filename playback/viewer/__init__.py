"""The live viewer in the browser. Only ``server`` and ``panel`` know viser; the rest needs no browser to be tested."""
