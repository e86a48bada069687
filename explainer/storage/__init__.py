"""Results on disk: the cache, the shards of a data set, how a result was made. No file is ever half written."""
