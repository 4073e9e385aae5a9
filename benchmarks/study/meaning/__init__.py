"""Pictures whose neighbourhood means nothing: do windows lose there against global steps?"""
