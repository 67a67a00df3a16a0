"""Small real image files of every kind, against the pixels that the preprocessing contract promises."""

import io
import os
import random
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pictures import encoded, png, png_chunk
from PIL import Image

from mbutils.backend import tf
from mbutils.data import decoding
from mbutils.data.decoding import MAX_BYTES, MAX_PIXELS, UnreadableImage, decode, decoded
from mbutils.data.parallel import Budget

RED, GRAY = (200, 10, 30), 77


def plain(mode, color):
    return Image.new(mode, (6, 4), color)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
@pytest.mark.parametrize(("mode", "color", "rgb"), [("RGB", RED, RED), ("L", GRAY, (GRAY,) * 3), ("1", 1, (255,) * 3)])
def test_lossless_formats_give_the_exact_pixels(kind, mode, color, rgb):
    pixels = decode(encoded(plain(mode, color), kind))
    assert pixels.shape == (4, 6, 3) and pixels.dtype == np.uint8
    assert (pixels == rgb).all()


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"lossless": True})])
def test_lossy_formats_are_read(kind, options):
    assert decode(encoded(plain("RGB", RED), kind, **options))[0, 0] == pytest.approx(RED, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    ("alpha", "expected"), [(255, RED), (0, (255, 255, 255)), (51, tuple(round(0.2 * c + 0.8 * 255) for c in RED))]
)
def test_transparent_images_are_blended_with_white(kind, alpha, expected):
    image = plain("RGBA", (*RED, alpha))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert decode(encoded(image, kind, **options))[0, 0] == pytest.approx(expected, abs=1)
    assert decode(encoded(plain("LA", (GRAY, alpha))))[0, 0] == pytest.approx(
        round(alpha / 255 * GRAY + (1 - alpha / 255) * 255), abs=1
    )


def test_palette_images_keep_their_transparent_colour():
    palette = plain("P", 1)
    palette.putpalette([0, 0, 0, *RED])
    assert (decode(encoded(palette)) == RED).all()
    assert (decode(encoded(palette, transparency=1)) == 255).all()


def test_cmyk_is_converted_by_the_formula_of_the_contract():
    c, m, y, k = 0, 120, 200, 50
    expected = [(255 - ink) * (255 - k) / 255 for ink in (c, m, y)]
    pixels = decode(encoded(plain("CMYK", (c, m, y, k)), "JPEG", quality=100))
    assert pixels[0, 0] == pytest.approx(expected, abs=4)


def test_16_bit_samples_keep_their_high_byte_in_gray_and_in_colour():
    samples = np.array([[0, 255, 256, 0x1234, 0xFF00, 0xFFFF]], np.uint16)
    gray = decode(encoded(Image.fromarray(samples)))
    assert gray[0, :, 0].tolist() == [0, 0, 1, 0x12, 0xFF, 0xFF]
    colour = decode(png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0x1234, 0xABCD, 0x00FF)))
    assert colour[0, 0].tolist() == [0x12, 0xAB, 0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (4, np.flipud),
        (5, lambda p: p.swapaxes(0, 1)),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p.swapaxes(0, 1), 2)),
        (8, np.rot90),
        (99, lambda p: p),
    ],
)
def test_every_exif_orientation_is_honoured_in_every_mode(mode, orientation, turned):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (16, 24, 3), np.uint8)).convert(mode)
    kind, options = ("JPEG", {"quality": 95}) if mode == "CMYK" else ("PNG", {})
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright, rotated = (decode(encoded(image, kind, **options, **extra)) for extra in ({}, {"exif": exif}))
    assert np.array_equal(rotated, turned(upright))


def test_damaged_exif_does_not_matter_where_the_pixels_are_sound():
    data = encoded(plain("RGB", RED), "JPEG", exif=b"Exif\0\0nonsense")
    assert decode(data).shape == (4, 6, 3)


def test_gray_is_luma_of_colour_and_has_one_channel():
    pixels = decode(encoded(plain("RGB", RED)), "gray")
    assert pixels.shape == (4, 6, 1)
    assert pixels[0, 0, 0] == pytest.approx(np.dot(RED, [0.299, 0.587, 0.114]), abs=1)


def test_first_frame_of_an_animation_counts():
    frames = [plain("RGB", RED), plain("RGB", (0, 0, 255))]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert (decode(data) == RED).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (b"this is a text", "not a JPEG, PNG, BMP or WebP image"),
        (encoded(plain("RGB", RED), "GIF"), "not a JPEG, PNG, BMP or WebP image"),
        (encoded(plain("RGB", RED), "TIFF"), "not a JPEG, PNG, BMP or WebP image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a JPEG, PNG, BMP or WebP image"),
    ],
)
def test_file_that_is_not_an_image_is_refused(data, message):
    with pytest.raises(UnreadableImage, match=message):
        decode(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_truncated_images_are_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(UnreadableImage):
        decode(data[: len(data) // 2])


def test_damaged_png_is_refused():
    data = bytearray(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))))
    data[200:260] = bytes(60)
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(bytes(data))


@pytest.mark.parametrize("side", [12_000, 30_000])
def test_decompression_bomb_is_refused_by_its_header(side):
    bomb = png(side, side, 8, 0, b"")
    with pytest.raises(UnreadableImage, match="more than 128 million pixels"):
        decode(bomb)
    assert MAX_PIXELS > 12_000 * 9_000  # what phones take


def test_webp_may_have_half_the_pixels_because_its_decoder_takes_twice_the_memory(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 2_000_000)
    image = Image.new("RGB", (1_200, 1_000))
    assert decode(encoded(image, "PNG")).size
    with pytest.raises(UnreadableImage, match="more than 1 million pixels"):
        decode(encoded(image, "WEBP"))


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_that_unpacks_to_much_is_not_kept(kind):
    packed = zlib.compress(bytes(2**22))
    start = b"name\0\1\0\0\0" if kind == b"iTXt" else b"name\0\0"
    bomb = png(1, 1, 8, 0, b"\0\7", png_chunk(kind, start + packed))
    with pytest.raises(UnreadableImage, match="damaged: Decompressed data too large"):
        decode(bomb)


def test_file_too_large_to_be_an_image_is_refused_unread(tmp_path):
    (tmp_path / "large.png").touch()
    os.truncate(tmp_path / "large.png", MAX_BYTES + 1)  # takes no space
    with (
        (tmp_path / "large.png").open("rb") as file,
        pytest.raises(UnreadableImage, match="larger than 513 MB"),
        decoded(file),
    ):
        pass


def samples():
    """A small file of every kind."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        image = (
            Image.fromarray(np.asarray(rgb)[..., 0].astype(np.uint16) * 257) if mode == "I;16" else rgb.convert(mode)
        )
        yield encoded(image, exif=exif)
    yield encoded(rgb.convert("P"), transparency=3, pnginfo=None)
    yield encoded(rgb, transparency=(1, 2, 3))
    for mode in ("RGB", "L", "CMYK"):
        yield encoded(rgb.convert(mode), "JPEG", exif=exif, progressive=mode == "L")
    yield encoded(rgb, "MPO", save_all=True, append_images=[rgb])
    for mode in ("RGB", "P", "1"):
        yield encoded(rgb.convert(mode), "BMP")
        yield encoded(rgb.convert(mode), "PPM") if mode != "P" else b"P2 2 2 255 1 2 3 4\n"
    for options in ({"lossless": True}, {"quality": 70, "exif": exif}, {"save_all": True, "append_images": [rgb]}):
        yield encoded(rgb, "WEBP", **options)


def mutated(data, rng):
    """A copy with one to sixteen bytes, words or lengths changed, rather in the header; or only its beginning."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 2, 16])):
        at = rng.randrange(min(len(data), rng.choice([60, 10_000])))
        changed = rng.choice(
            [[data[at] ^ 1 << rng.randrange(8)], [0], [0xFF], [0xFF] * 4, [0x7F, 0xFF, 0xFF, 0xFF], []]
        )
        data[at : at + len(changed) or at + 1] = changed
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 and len(data) else data)


def with_sums(data):
    """A PNG with right checksums, so that its damage is read."""
    fixed, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        fixed += data[at : at + 4] + png_chunk(data[at + 4 : at + 8], data[at + 8 : end])[4:]
        at = end + 4
    return bytes(fixed)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damaged metadata
@pytest.mark.parametrize("kind", range(len(list(samples()))))
def test_damaged_file_is_an_image_or_unreadable_with_a_reason(kind):
    rng, data = random.Random(kind), list(samples())[kind]
    assert decode(data).size
    unreadable = 0
    for _ in range(200):
        damaged = mutated(data, rng)
        damaged = with_sums(damaged) if data.startswith(b"\x89PNG") and rng.random() < 0.7 else damaged
        if damaged[16:24].count(0) < 4 and data.startswith(b"\x89PNG"):
            continue  # large, and so slow
        try:
            assert decode(damaged).dtype == np.uint8
        except UnreadableImage as error:
            unreadable += 1
            assert str(error)
    assert unreadable > 10


@pytest.mark.parametrize("kind", range(len(list(samples()))))
@pytest.mark.parametrize("color_mode", ["rgb", "gray"])
def test_large_images_have_the_same_pixels_though_they_are_converted_in_strips(kind, color_mode, monkeypatch):
    data = list(samples())[kind]
    at_once = decode(data, color_mode)
    monkeypatch.setattr(decoding, "_PIXELS_OF_STRIP", 22)
    assert np.array_equal(decode(data, color_mode), at_once)


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(decoding, "_MEMORY", Budget(7 * 6 * 4))
    at_once = set()

    def use(data):
        with decoded(io.BytesIO(data)):
            at_once.add(threading.get_ident())
            assert len(at_once) == 1
            at_once.clear()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, [encoded(plain("RGB", RED))] * 100))


MEASURE = """
import os, sys
os.sched_getaffinity = lambda process: set(range(8))  # as many threads as a larger machine has
from mbutils.config import DataParameters, Preprocessing
from mbutils.data import folder, preprocessing
dataset = folder.load_to_score(DataParameters(dataset="folder", data_dir=sys.argv[1]), "all")
images = preprocessing.cached_images(dataset, Preprocessing(96, "rgb", "area"))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(images), peak.split()[1])
"""


@pytest.mark.slow
def test_memory_for_images_of_100_million_pixels_is_bounded_however_many_cores_there_are(tmp_path):
    folder = tmp_path / "data" / "rose"
    folder.mkdir(parents=True)
    width, height = 10_000, 10_000
    for bits, color_type, depth in ((8, 2, 3), (8, 6, 4), (16, 0, 2)):
        (folder / f"{bits}_{color_type}.png").write_bytes(
            png(width, height, bits, color_type, bytes((1 + width * depth) * height))
        )
    for progressive in (False, True):
        image = Image.new("RGB", (width, height))
        image.save(folder / f"{progressive}.jpg", progressive=progressive)
    for bits in (24, 32):
        header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 0, 0, 54, 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
        (folder / f"{bits}.bmp").write_bytes(header)
        os.truncate(folder / f"{bits}.bmp", 54 + width * height * bits // 8)
    environment = os.environ | {"MB_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, folder.parent], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr
    count, kilobytes = map(int, done.stdout.split())
    assert count == 7 and kilobytes < 2_000_000


def jpeg(mode="RGB", **options):
    """Returns a JPEG of noise with subsampled chroma, where decoders differ most."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(file, "JPEG", quality=80, **options)
    return file.getvalue()


@pytest.mark.parametrize(("color_mode", "channels"), [("rgb", 3), ("gray", 1)])
def test_a_jpeg_is_decoded_as_tensorflow_does_it_where_the_contract_says_so(color_mode, channels):
    expected = tf.io.decode_image(jpeg(), channels=channels).numpy()
    np.testing.assert_array_equal(decode(jpeg(), color_mode, "tensorflow"), expected)


def test_decoders_differ_by_little():
    difference = decode(jpeg(), "gray", "tensorflow").astype(int) - decode(jpeg(), "gray")
    assert 0 < np.abs(difference).max() < 16


def test_tensorflow_turns_as_exif_says_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(jpeg(exif=exif), "rgb", "tensorflow")
    np.testing.assert_array_equal(turned, np.rot90(decode(jpeg(), "rgb", "tensorflow"), -1))


def test_other_formats_have_one_decoder():
    file = io.BytesIO()
    Image.open(io.BytesIO(jpeg())).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue(), "rgb", "tensorflow"), decode(file.getvalue()))


def test_a_jpeg_that_tensorflow_cannot_decode_is_unreadable():
    with pytest.raises(UnreadableImage, match="damaged"):
        decode(jpeg()[:-300], "rgb", "tensorflow")
