"""What a report says and shows: choice under a budget, the published page, tables, plots, pages."""
