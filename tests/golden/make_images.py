#!/usr/bin/python3
"""make_images.py: writes tests/data/images/: small image files of every kind that is decoded, and
what Pillow makes of them as PPM or PGM files beside them.

NAME.ppm holds the pixels of NAME after ImageOps.exif_transpose and convert("RGB"). The kinds of PNG
that Pillow does not write (16 bits, 2 and 4 bits, interlaced, eXIf) are put together here, chunk by
chunk. Of 16-bit grey the upper 8 bits are expected: Pillow's own convert would clip it to white.
fit_*.ppm are resized images: resize(BILINEAR), torchvision's Resize and CenterCrop, a letterbox.

Run it from the root of the repository with a Python that has Pillow (made with 9.4) and numpy:
    python3 tests/golden/make_images.py
"""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

OUT = "tests/data/images"
WIDTH, HEIGHT = 23, 17
random = np.random.default_rng(3)


def picture(width, height):
    """Smooth colours with some noise: no two corners are alike."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    x, y = x / width, y / height
    rgb = np.stack([255 * x, 255 * y, 127 + 120 * np.sin(9 * x * y + 4 * x)], axis=2)
    return np.clip(rgb + random.normal(0, 12, rgb.shape), 0, 255).astype(np.uint8)


def write(name, data):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def expect(name, pixels):
    """pixels: [h, w, 3] or [h, w]."""
    kind = b"P6" if pixels.ndim == 3 else b"P5"
    size = b"%d %d" % (pixels.shape[1], pixels.shape[0])
    write(name, kind + b"\n" + size + b"\n255\n" + np.ascontiguousarray(pixels).tobytes())


def by_pillow(name):
    with Image.open(os.path.join(OUT, name)) as im:
        expect(name + ".ppm", np.asarray(ImageOps.exif_transpose(im).convert("RGB")))


def save(name, im, **options):
    im.save(os.path.join(OUT, name), **options)
    by_pillow(name)


# ---- PNG by hand ------------------------------------------------------------------------------

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, raw, interlace=0, extra=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra +
            chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def rows(pixels):
    """Rows with filter type 0. pixels: uint8 or big-endian uint16."""
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def packed_rows(values, depth):
    out = b""
    for row in values:
        bits = "".join(format(v, "0%db" % depth) for v in row)
        bits += "0" * (-len(bits) % 8)
        out += b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    return out


def adam7(pixels):
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2)]
    return b"".join(rows(pixels[y::dy, x::dx]) for x, y, dx, dy in passes
                    if pixels[y::dy, x::dx].size)


def tiff(orientation, order):
    """The shortest EXIF block with an orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x112, 3, 1, orientation, 0)
    return mark + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


def with_exif(jpeg, orientation, order):
    block = b"Exif\0\0" + tiff(orientation, order)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


# ---- the files --------------------------------------------------------------------------------

def jpegs(rgb):
    im = Image.fromarray(rgb)
    save("rgb.jpg", im, quality=90)
    save("rgb444.jpg", im, quality=85, subsampling=0)
    save("progressive.jpg", im, quality=80, progressive=True)
    save("gray.jpg", im.convert("L"), quality=90)
    save("cmyk.jpg", im.convert("CMYK"), quality=95)
    # An Adobe marker with transform 2 makes CMYK's planes YCCK.
    data = open(os.path.join(OUT, "cmyk.jpg"), "rb").read()
    at = data.index(b"Adobe")
    write("ycck.jpg", data[:at + 11] + b"\x02" + data[at + 12:])
    by_pillow("ycck.jpg")
    plain = io.BytesIO()
    im.save(plain, "JPEG", quality=90)
    for orientation in range(1, 9):
        name = "orientation%d.jpg" % orientation
        write(name, with_exif(plain.getvalue(), orientation, "<" if orientation % 2 else ">"))
        by_pillow(name)


def pngs(rgb):
    im = Image.fromarray(rgb)
    gray = np.asarray(im.convert("L"))
    alpha = random.integers(0, 256, gray.shape, dtype=np.uint8)
    save("rgb.png", im)
    save("gray.png", im.convert("L"))
    save("rgba.png", Image.fromarray(np.dstack([rgb, alpha])))
    save("gray_alpha.png", Image.fromarray(np.dstack([gray, alpha]), "LA"))
    save("palette.png", im.quantize(20))
    save("palette_alpha.png", im.quantize(16), transparency=3)
    save("bits1.png", im.convert("1"))
    for depth in (2, 4):
        name = "bits%d.png" % depth
        write(name, png(WIDTH, HEIGHT, depth, 0, packed_rows(gray >> (8 - depth), depth)))
        by_pillow(name)
    write("interlaced.png", png(WIDTH, HEIGHT, 8, 2, adam7(rgb), interlace=1))
    by_pillow("interlaced.png")
    write("orientation6.png", png(WIDTH, HEIGHT, 8, 2, rows(rgb),
                                  extra=chunk(b"eXIf", tiff(6, ">"))))
    expect("orientation6.png.ppm", np.rot90(rgb, -1))
    wide = (rgb.astype(np.uint16) << 8 | 0x7F).astype(">u2")
    write("rgb16.png", png(WIDTH, HEIGHT, 16, 2, rows(wide)))
    by_pillow("rgb16.png")
    write("gray16.png", png(WIDTH, HEIGHT, 16, 0, rows((gray.astype(">u2") << 8 | 0xF0).astype(">u2"))))
    expect("gray16.png.ppm", np.dstack([gray] * 3))
    # Keyed transparency of grey and of RGB is dropped like any alpha.
    write("keyed.png", png(WIDTH, HEIGHT, 8, 2, rows(rgb),
                           extra=chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[3, 4])))))
    by_pillow("keyed.png")


def bombs():
    write("bomb.png", png(100000, 100000, 8, 2, b"\0" * 1000))
    small = io.BytesIO()
    Image.new("RGB", (8, 8)).save(small, "JPEG")
    data = small.getvalue()
    at = data.index(b"\xff\xc0") + 5
    write("bomb.jpg", data[:at] + struct.pack(">HH", 65500, 65500) + data[at + 4:])


def fits():
    im = Image.fromarray(picture(61, 47))
    save("photo.png", im)
    for w, h in ((20, 15), (7, 9), (100, 80), (61, 20), (24, 3), (1, 1), (13, 47)):
        expect("fit_stretch_%dx%d.ppm" % (w, h), np.asarray(im.resize((w, h), Image.BILINEAR)))
    expect("fit_gray_20x15.pgm", np.asarray(im.convert("L").resize((20, 15), Image.BILINEAR)))
    # torchvision.transforms: Resize(32), CenterCrop(28)
    short, crop = 32, 28
    w, h = int(short * im.width / im.height), short
    left, top = round((w - crop) / 2), round((h - crop) / 2)
    scaled = im.resize((w, h), Image.BILINEAR)
    expect("fit_crop_28x28.ppm", np.asarray(scaled.crop((left, top, left + crop, top + crop))))
    ratio = min(32 / im.width, 32 / im.height)
    w, h = round(im.width * ratio), round(im.height * ratio)
    left, top = round((32 - w) / 2 - 0.1), round((32 - h) / 2 - 0.1)
    canvas = Image.new("RGB", (32, 32), (114, 114, 114))
    canvas.paste(im.resize((w, h), Image.BILINEAR), (left, top))
    expect("fit_letterbox_32x32.ppm", np.asarray(canvas))


def main():
    os.makedirs(OUT, exist_ok=True)
    rgb = picture(WIDTH, HEIGHT)
    jpegs(rgb)
    pngs(rgb)
    bombs()
    fits()


if __name__ == "__main__":
    main()
