// Reads the fuzzer's bytes as a safetensors file. The library must read the file or throw a
// dsm_ext::Error.

#include "dsm_ext/weights.h"
#include "memory_file.h"
#include "weights/model_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t count) {
  static MemoryFile file;
  file.write(bytes, count);
  try {
    uint64_t sum = 0;
    for (const auto& [name, tensor] : dsm_ext::read_safetensors(file.path())) {
      const auto* values = static_cast<const uint8_t*>(tensor.const_data_ptr());
      for (size_t i = 0; i < tensor.nbytes(); ++i) {
        sum += values[i];  // read every byte, so that the sanitizer checks the bounds
      }
    }
    static volatile uint64_t kept;
    kept = sum;
    dsm_ext::open_model(file.path());
  } catch (const dsm_ext::Error&) {
  }
  return 0;
}
