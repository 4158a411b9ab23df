"""Records: profiles, the record store, parallel execution, saved results and their comparison."""
