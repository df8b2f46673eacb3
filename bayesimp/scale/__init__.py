"""The scale on which samplers work, where engines share it: centred columns, effects, order of clusters."""
