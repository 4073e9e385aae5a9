"""The Python program that ``embed.py`` measures: ``worker.py KIND FOLDER THREADS [freeze]``.

It does the same as program/embed.cpp. KIND is dsm_ext, or timm: its eager model with the same
weights. The program imports nothing else, because its start-up is measured.
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
