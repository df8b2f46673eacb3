"""Numbers only: functions on arrays, without pandas, xarray or PyMC."""
