"""Image files become pixels: whole images of common formats, on white, squeezed into a square."""
import struct
import warnings

import torch

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MOST_PIXELS = 100_000_000  # a file of a few bytes can ask for more memory than there is
# what Pillow raises for files that are no whole images, damaged EXIF among them
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, struct.error)

def read_image(path, size):
    """Pixels (3, size, size) from −1 to 1 of an image file, on white, squeezed into a square.

    Raises ValueError for a file that is no whole image, or too large; FileNotFoundError if there is none.
    """
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise ValueError("images need one more package: pip install pillow") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are refused below
            with Image.open(path, formats=IMAGE_FORMATS) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise ValueError(f"it has {file.width} × {file.height} pixels; the most are "
                                     f"{MOST_PIXELS}")
                if file.mode.startswith("I"):
                    raise ValueError(f"its numbers have more than 8 bits (mode {file.mode}); save it with 8")
                image = ImageOps.exif_transpose(file)
                if not image.has_transparency_data:
                    image = image.convert("RGB")  # CMYK, for one, has no way to RGBA but this
                image = image.convert("RGBA")
    except FileNotFoundError:
        raise FileNotFoundError(f"the image {path} does not exist") from None
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise ValueError(f"the image {path} cannot be read: {error}") from error
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    pixels = values.view(size, size, 3).permute(2, 0, 1).float()
    return pixels / 127.5 - 1
