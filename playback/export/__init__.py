"""Export: avatars as files that other programs read. EXPORTERS in playback.export.formats lists them."""
