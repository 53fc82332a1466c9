"""Several ways of adapting: run, compared on the same test rows, fused."""
