"""`JointNormal` with several grouping factors: three levels, crossed clusters."""
