"""Part 5: do models that were trained with sharpness-aware minimisation tolerate merging better?

``measure`` trains the digits' small ViT with AdamW and with SAM, several seeds each, in child
processes (``worker``), and compares (``compare``) accuracies and sharpness (``hessian``) with and
without merging. ``trial`` tries values of SAM's radius; it is run by hand.
"""
