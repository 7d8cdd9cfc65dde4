"""The report of a run: sections that the core and plugins provide, on one page of HTML."""
