#include <dsm_ext/dsm_ext.h>

#include <iostream>

// FOLDER IMAGES: prints the logits of the images in a safetensors file, nine digits each.
int main(int argc, char** argv) try {
  if (argc != 3) {
    return 2;
  }
  const auto model = dsm_ext::load(argv[1]);
  const auto logits = model->forward(dsm_ext::read_safetensors(argv[2]).at(0).second).contiguous();
  std::cout.precision(9);
  for (int64_t i = 0; i < logits.numel(); ++i) {
    std::cout << logits.const_data_ptr<float>()[i] << "\n";
  }
} catch (const dsm_ext::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
