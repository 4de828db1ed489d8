"""Values of input columns: ids, times, titles, and what is missing."""
