"""What is kept on disk: a cache of computed tensors, shards of a data set's attributions, how a result was made."""
