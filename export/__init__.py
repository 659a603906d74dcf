"""Export: avatars as files that other programs read; ``formats`` lists them in EXPORTERS.

``ply``, ``spz``, ``playback_bundle`` and ``web`` are the formats. The last two contain a distilled
avatar (``distil``: linear in ``codes`` of the state, from what ``teacher`` shows at ``sampling``'s
states), without Gaussians that no view needs (``culling``), in few bits (``storage``,
``sensitivity``); ``fidelity`` measures what that costs.
"""
