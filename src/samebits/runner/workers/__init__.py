"""Several workers: processes that train one model together, and what they must agree on."""
