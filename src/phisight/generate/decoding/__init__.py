"""How one answer is decoded: the cache of its keys and values, one step of all answers, sampling, languages of JSON."""
