#include "safetensors.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <system_error>

#include "json.h"

// A safetensors file has three parts: the length of the header (8 bytes, little-endian); the
// header, a JSON object with the dtype, shape and offsets of each tensor; and the bytes of the
// tensors. The reader checks everything that the file says before using it.

namespace dsm_ext {
namespace {

using Json = nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMostHeader = 100'000'000;  // as in the reference implementation
constexpr int kMostDepth = 3;                  // the header has tensors, a tensor has a shape

// What the header says about a tensor.
struct Place {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // offsets in bytes from the end of the header
};

at::TensorOptions cpu_options(at::ScalarType dtype) {
  return at::TensorOptions().dtype(dtype).device(at::kCPU);
}

// A file that is open for reading. The file is copied, not mapped into memory, so later changes of
// the file do not change the tensors.
class File {
 public:
  explicit File(const std::string& path) : path_(path) {
    size_ = file_size(path_);
    if (size_ < kLengthBytes) {
      fail("not a safetensors file: it has " + std::to_string(size_) + " bytes");
    }
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) {
      fail("it cannot be read: " + std::generic_category().message(errno));
    }
    size_ = state().size;
  }
  ~File() {
    if (descriptor_ >= 0) {
      ::close(descriptor_);
    }
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[noreturn]] void fail(const std::string& fault) const { dsm_ext::fail(path_, fault); }

  std::vector<Place> read_header(std::map<std::string, std::string>& metadata) {
    uint8_t first[kLengthBytes];
    read(0, kLengthBytes, first);
    uint64_t length = 0;
    for (size_t i = 0; i < kLengthBytes; ++i) {
      length |= uint64_t{first[i]} << (8 * i);
    }
    if (length > size_ - kLengthBytes || length > kMostHeader) {
      fail(
          "not a safetensors file: a header of " + std::to_string(length) + " bytes in a file of " +
          std::to_string(size_));
    }
    data_ = kLengthBytes + length;
    std::vector<uint8_t> bytes(length);
    read(kLengthBytes, length, bytes.data());
    const auto header =
        parse_json(path_, "its header", bytes.data(), bytes.data() + length, kMostDepth);
    std::vector<Place> places;
    for (const auto& [name, entry] : header.items()) {
      if (name == "__metadata__") {
        read_metadata(entry, metadata);
      } else {
        places.push_back(read_place(name, entry));
      }
    }
    check_places(places);
    return places;
  }

  // Reads tensors. Torch's threads share the tensors among themselves.
  std::vector<at::Tensor> read_tensors(const std::vector<Place>& places) const {
    const auto before = state();
    std::vector<at::Tensor> tensors;
    for (const auto& place : places) {
      tensors.push_back(at::empty(place.shape, cpu_options(place.dtype)));
    }
    at::parallel_for(0, static_cast<int64_t>(places.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto& place = places[i];
        if (place.end > place.begin) {
          read(data_ + place.begin, place.end - place.begin, tensors[i].mutable_data_ptr());
        }
      }
    });
    if (state() != before) {
      fail("it was written to while it was read");
    }
    return tensors;
  }

 private:
  Place read_place(const std::string& name, const Json& entry) const {
    const auto field = [&](const char* key) -> const Json& {
      if (!entry.is_object() || !entry.contains(key)) {
        fail("tensor " + quoted(name) + " has no " + key);
      }
      return entry[key];
    };
    if (!field("dtype").is_string()) {
      fail("tensor " + quoted(name) + " has a dtype that is no string");
    }
    Place place{name, read_dtype(name, field("dtype").get<std::string>()), {}, 0, 0};
    // Bytes of the tensor, where lengths of 0 count as 1: the strides of an empty tensor must not
    // overflow either.
    uint64_t extent = c10::elementSize(place.dtype);
    bool empty = false;
    for (const uint64_t length : read_numbers(name, "shape", field("shape"))) {
      if (__builtin_mul_overflow(extent, std::max<uint64_t>(length, 1), &extent) ||
          extent > INT64_MAX) {
        fail("tensor " + quoted(name) + " has a shape that overflows");
      }
      empty |= length == 0;
      place.shape.push_back(static_cast<int64_t>(length));
    }
    const uint64_t bytes = empty ? 0 : extent;
    const auto offsets = read_numbers(name, "data_offsets", field("data_offsets"));
    if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > size_ - data_) {
      fail("tensor " + quoted(name) + " lies outside the file");
    }
    place.begin = offsets[0];
    place.end = offsets[1];
    if (place.end - place.begin != bytes) {
      fail(
          "tensor " + quoted(name) + " has " + std::to_string(place.end - place.begin) +
          " bytes, and its shape and dtype make " + std::to_string(bytes));
    }
    return place;
  }

  void read_metadata(const Json& entries, std::map<std::string, std::string>& metadata) const {
    if (!entries.is_object()) {
      fail("its metadata is no object");
    }
    for (const auto& [key, value] : entries.items()) {
      if (!value.is_string()) {
        fail("its metadata " + quoted(key) + " is no string");
      }
      metadata.emplace(key, value.get<std::string>());
    }
  }

  at::ScalarType read_dtype(const std::string& name, const std::string& dtype) const {
    static const std::map<std::string, at::ScalarType> known = {
        {"F64", at::kDouble},          {"F32", at::kFloat},  {"F16", at::kHalf},
        {"BF16", at::kBFloat16},       {"I64", at::kLong},   {"I32", at::kInt},
        {"I16", at::kShort},           {"I8", at::kChar},    {"U8", at::kByte},
        {"U16", at::kUInt16},          {"U32", at::kUInt32}, {"U64", at::kUInt64},
        {"C64", at::kComplexFloat},    {"BOOL", at::kBool},  {"F8_E4M3", at::kFloat8_e4m3fn},
        {"F8_E5M2", at::kFloat8_e5m2},
    };
    const auto found = known.find(dtype);
    if (found == known.end()) {
      fail("tensor " + quoted(name) + " has the unknown dtype " + quoted(dtype));
    }
    return found->second;
  }

  std::vector<uint64_t> read_numbers(
      const std::string& name, const char* key, const Json& numbers) const {
    constexpr size_t kMost = 64;  // the most dimensions of a torch tensor
    const auto is_number = [](const Json& n) { return n.is_number_unsigned(); };
    if (!numbers.is_array() || numbers.size() > kMost ||
        !std::all_of(numbers.begin(), numbers.end(), is_number)) {
      fail("tensor " + quoted(name) + " has a " + key + " that is no list of counts");
    }
    return numbers.get<std::vector<uint64_t>>();
  }

  // Checks that the tensors fill the file: in the order of their offsets, each begins where the one
  // before it ends, and the last ends at the end of the file.
  void check_places(const std::vector<Place>& places) const {
    std::vector<const Place*> ordered;
    for (const auto& place : places) {
      ordered.push_back(&place);
    }
    std::sort(ordered.begin(), ordered.end(), [](const Place* a, const Place* b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    uint64_t end = 0;
    for (const auto* place : ordered) {
      if (place->begin < end) {
        fail("tensor " + quoted(place->name) + " overlaps another");
      }
      if (place->begin > end) {
        fail("there is a hole before tensor " + quoted(place->name));
      }
      end = place->end;
    }
    if (end != size_ - data_) {
      fail(
          "its tensors end at byte " + std::to_string(data_ + end) + " of " +
          std::to_string(size_));
    }
  }

  // The size and time of the file. They change when somebody writes to it.
  struct State {
    uint64_t size;
    int64_t seconds, nanoseconds;  // the time of the last write
    bool operator==(const State&) const = default;
  };

  State state() const {
    struct stat status;
    if (::fstat(descriptor_, &status) != 0) {
      fail("it cannot be read: " + std::generic_category().message(errno));
    }
    return {static_cast<uint64_t>(status.st_size), status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
  }

  // Copies `bytes` bytes from the offset `begin` of the file to `to`.
  void read(uint64_t begin, uint64_t bytes, void* to) const {
    auto* next = static_cast<uint8_t*>(to);
    while (bytes > 0) {
      const auto count = ::pread(descriptor_, next, bytes, static_cast<off_t>(begin));
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count <= 0) {
        fail(
            count == 0 ? "it was cut short while it was read"
                       : "it cannot be read: " + std::generic_category().message(errno));
      }
      next += count;
      begin += count;
      bytes -= count;
    }
  }

  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;  // of the whole file, in bytes
  uint64_t data_ = 0;  // the offset in bytes where the tensors begin
};

}  // namespace

SafetensorsFile open_safetensors(const std::string& path, bool values) {
  const c10::InferenceMode ordinary(false);  // the tensors stay after the caller's inference mode
  File file(path);
  SafetensorsFile content;
  const auto places = file.read_header(content.metadata);
  const auto read = values ? file.read_tensors(places) : std::vector<at::Tensor>();
  for (size_t i = 0; i < places.size(); ++i) {
    const auto& [name, dtype, shape, begin, end] = places[i];
    content.tensors.emplace_back(
        name, values ? read[i] : at::empty(shape, cpu_options(dtype).device(at::kMeta)));
  }
  return content;
}

NamedTensors read_safetensors(const std::string& path) {
  return open_safetensors(path, /*values=*/true).tensors;
}

}  // namespace dsm_ext
