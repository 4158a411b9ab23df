"""Studies: profiles, records, parallel work, results and their comparison."""
