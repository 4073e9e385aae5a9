"""Reading pictures: where they are, what they are called, decoding and scaling, without torch.

Processes that decode pictures import only this package, so they start in a fraction of a second.
It is outside of ``dsm_ext``, whose import takes seconds because it imports torch.
"""
