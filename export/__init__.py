"""Export: avatars as files that other programs read; EXPORTERS in likeness.export.formats."""
