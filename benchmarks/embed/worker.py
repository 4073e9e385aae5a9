"""What ``embed.py`` measures of Python: ``worker.py KIND FOLDER THREADS [freeze]``.

As program/embed.cpp; KIND is dsm_ext, or timm for its eager model with the same weights.
"""

import sys
import time

import torch


def load(kind, folder):
    if kind == "dsm_ext":
        import dsm_ext

        return dsm_ext.load(folder)
    import timm

    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


@torch.inference_mode()
def main():
    kind, folder, threads, *rest = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = load(kind, folder)
    if rest:
        model.freeze()
    size = (model.config if kind == "dsm_ext" else model.patch_embed).img_size
    images = torch.ones(1, 3, *size)
    print("ready", model(images).argmax(1).item(), flush=True)
    for line in sys.stdin:
        least, count = float(line), 0
        begin = time.perf_counter()
        while (passed := time.perf_counter() - begin) < least:
            model(images)
            count += 1
        print(count, passed, flush=True)


main()
