"""What a report shows: the choice under a budget, the published page, tables, plots, HTML."""
