"""Official scores: one file for each family of rules, its editions as data beside it. Nothing here needs torch."""
