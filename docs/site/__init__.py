"""What turns `docs/` into a site: `python docs/build.py`."""
