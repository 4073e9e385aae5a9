"""What merging meets in each block of a model, measured on pictures without labels."""
