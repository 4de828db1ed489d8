"""Each file measures one claim: ours against a named baseline, both in the same run, the ratio printed."""
