"""The scale on which samplers work, as far as all engines share it: centred columns, effects, order of clusters."""
