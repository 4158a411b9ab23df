"""Analysis: tidy tables, statistics, claims, costs and figures. Nothing here trains."""
