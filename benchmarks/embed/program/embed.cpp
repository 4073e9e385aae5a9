// The C++ program that benchmarks/embed/embed.py measures. embed/worker.py does the same in Python.
//
//     dsm_ext_embed FOLDER THREADS [freeze]
//
// It computes the logits of one image and prints "ready". Each line on stdin is a number of
// seconds: the program calls the model for that long, and prints the number of calls and the
// seconds.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dsm_ext/dsm_ext.h>

#include <chrono>
#include <iostream>

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  at::set_num_threads(std::stoi(argv[2]));
  auto model = dsm_ext::load(argv[1]);
  if (argc > 3) {
    model->freeze();
  }
  const auto& config = model->config();
  const auto images = at::ones({1, config.in_chans, config.img_size[0], config.img_size[1]});
  std::cout << "ready " << model->forward(images).argmax(1).item<int64_t>() << std::endl;
  double least = 0;
  while (std::cin >> least) {
    int64_t count = 0;
    const auto begin = Clock::now();
    std::chrono::duration<double> passed{};
    while (passed.count() < least) {
      model->forward(images);
      ++count;
      passed = Clock::now() - begin;
    }
    std::cout << count << " " << passed.count() << std::endl;
  }
}
