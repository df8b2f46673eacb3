"""Reports of a run: one document of sections, written as HTML, Markdown or Word."""
