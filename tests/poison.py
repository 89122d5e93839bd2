"""Makes chosen images crash every process of a run: the folder filled by `install` goes onto PYTHONPATH.

An image whose file ends in `poison:load:segfault` crashes the process that decodes its small copy, and so on for
`write` (the full decode), `thumbnail` and for `hang`; `poison:load:until:PATH` makes it wait until a file is there. An
image that is all black crashes the network.
"""

from __future__ import annotations

from pathlib import Path

SITE = """
import ctypes, importlib.abc, importlib.util, os, sys, time

def strike(data, stage):
    end = data[-400:]  # of a huge image the rest stays a file
    if end.endswith(f"poison:{stage}:segfault".encode()):
        ctypes.string_at(0)
    if end.endswith(f"poison:{stage}:hang".encode()):
        time.sleep(3600)
    _, gated, path = end.rpartition(f"poison:{stage}:until:".encode())
    while gated and not os.path.exists(path):
        time.sleep(0.05)

def patch_codec(module):
    small, full, thumbnail = module.decode_small, module.decode, module.decode_thumbnail
    def decode_small(data, *args, **options):
        strike(data, "load")
        return small(data, *args, **options)
    def decode(data, *args, **options):
        strike(data, "write")
        return full(data, *args, **options)
    def decode_thumbnail(data, *args, **options):
        strike(data, "thumbnail")
        return thumbnail(data, *args, **options)
    module.decode_small, module.decode, module.decode_thumbnail = decode_small, decode, decode_thumbnail

def patch_colorizer(module):
    color = module.Colorizer.color
    def colored(self, greys, **options):
        if any(not getattr(seen, "grey", seen).any() for seen in greys):
            ctypes.string_at(0)
        return color(self, greys, **options)
    module.Colorizer.color = colored

PATCHES = {"colorize.imaging.formats.codec": patch_codec, "colorize.predict.colorizer": patch_colorizer}

class Patcher(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in PATCHES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            PATCHES[name](module)
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Patcher())
"""


def install(folder: Path) -> Path:
    """Fills `folder` and returns it."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(SITE)
    return folder
