#include "jpeg.h"

#include <turbojpeg.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace {

using Bytes = std::span<const unsigned char>;

constexpr int64_t kMostPixels = 178'956'970;  // Pillow's limit
constexpr std::string_view kExif("Exif\0\0", 6);

// Reads an unsigned number of `size` bytes. The caller has checked that these bytes exist.
uint32_t number(Bytes bytes, size_t at, size_t size, bool little_endian) {
  uint32_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value = value << 8 | bytes[at + (little_endian ? size - 1 - i : i)];
  }
  return value;
}

// Reads the orientation, 1 to 8, from EXIF tags (the first table of a TIFF file). Gives 1 when the
// tags are broken or have no orientation. Checks every offset and count before using it.
int exif_orientation(Bytes tags) {
  if (tags.size() < 8) {
    return 1;
  }
  const bool little = tags[0] == 'I' && tags[1] == 'I';
  const bool big = tags[0] == 'M' && tags[1] == 'M';
  const size_t table = number(tags, 4, 4, little);
  if ((!little && !big) || number(tags, 2, 2, little) != 42 || table > tags.size() - 2) {
    return 1;
  }
  const size_t count = number(tags, table, 2, little);
  for (size_t i = 0, at = table + 2; i < count && at + 12 <= tags.size(); ++i, at += 12) {
    if (number(tags, at, 2, little) == 0x0112 && number(tags, at + 4, 4, little) > 0) {
      const auto type = number(tags, at + 2, 2, little);  // 3: two bytes, 4: four bytes
      const auto value =
          type == 3 || type == 4 ? number(tags, at + 8, type == 3 ? 2 : 4, little) : 0;
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

struct Segments {
  int orientation = 1;
  bool complete = false;  // whether the file has its end marker
};

// Reads the segments in front of the pixels. Stops at a length that reaches beyond the file.
Segments read_segments(Bytes bytes) {
  Segments found;
  bool tagged = false;
  for (size_t at = 2; at + 4 <= bytes.size() && bytes[at] == 0xFF;) {
    const int marker = bytes[at + 1];
    if (marker == 0xFF || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) {
      at += marker == 0xFF ? 1 : 2;  // these markers have no length
      continue;
    }
    const size_t length = number(bytes, at + 2, 2, /*little_endian=*/false);
    if (length < 2 || length > bytes.size() - at - 2) {
      break;
    }
    const Bytes content = bytes.subspan(at + 4, length - 2);
    at += 2 + length;
    if (marker == 0xDA) {  // pixels follow; FF D9 in them can only be the end marker
      constexpr unsigned char kEnd[] = {0xFF, 0xD9};
      found.complete = std::search(bytes.begin() + at, bytes.end(), kEnd, kEnd + 2) != bytes.end();
      break;
    }
    const bool exif = content.size() >= kExif.size() &&
                      std::equal(kExif.begin(), kExif.end(), content.begin(), [](char a, int b) {
                        return static_cast<unsigned char>(a) == b;
                      });
    if (marker == 0xE1 && exif && !tagged) {
      found.orientation = exif_orientation(content.subspan(kExif.size()));
      tagged = true;
    }
  }
  return found;
}

// Turns a picture by its EXIF orientation: 2 to 4 mirror it or turn it by 180 degrees, 5 to 8 also
// swap rows and columns.
at::Tensor turned(const at::Tensor& picture, int orientation) {
  const auto x = orientation >= 5 ? picture.transpose(0, 1) : picture;
  switch (orientation) {
    case 2:
    case 6:
      return x.flip(1);
    case 3:
    case 7:
      return x.flip({0, 1});
    case 4:
    case 8:
      return x.flip(0);
    default:
      return x;
  }
}

}  // namespace

at::Tensor decode_jpeg(const std::vector<unsigned char>& bytes, int channels) {
  if (bytes.size() < 4 || bytes[0] != 0xFF || bytes[1] != 0xD8) {
    throw std::runtime_error("not a JPEG file");
  }
  const Segments segments = read_segments(bytes);
  const std::unique_ptr<void, int (*)(tjhandle)> decoder(tjInitDecompress(), &tjDestroy);
  const auto check = [&](int status) {
    if (status != 0 && tjGetErrorCode(decoder.get()) != TJERR_WARNING) {
      throw std::runtime_error(tjGetErrorStr2(decoder.get()));
    }
  };
  int width = 0, height = 0, subsampling = 0, colours = 0;
  check(tjDecompressHeader3(
      decoder.get(), bytes.data(), bytes.size(), &width, &height, &subsampling, &colours));
  if (colours == TJCS_CMYK || colours == TJCS_YCCK) {
    throw std::runtime_error("its colours are CMYK: expected grey or RGB");
  }
  if (int64_t{width} * height > kMostPixels) {
    throw std::runtime_error(
        "it has " + std::to_string(width) + " x " + std::to_string(height) + " pixels, more than " +
        std::to_string(kMostPixels));
  }
  if (!segments.complete) {
    throw std::runtime_error("the file is cut short");
  }
  auto picture = at::empty({height, width, channels}, at::kByte);
  check(tjDecompress2(
      decoder.get(), bytes.data(), bytes.size(), picture.mutable_data_ptr<uint8_t>(), width,
      /*pitch=*/channels * width, height, channels == 1 ? TJPF_GRAY : TJPF_RGB, /*flags=*/0));
  return turned(picture, segments.orientation);
}
