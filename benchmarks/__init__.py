"""Each file measures one claim: our code against a named baseline in the same run, printing the ratio."""
