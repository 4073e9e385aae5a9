"""Predicting many pictures: their embeddings, logits or tokens, written as Parquet shards."""
