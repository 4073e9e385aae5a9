// Several threads share one model. A queue holds requests of one image each, and a free thread
// takes the next request. The packed weights are in memory once; each thread needs only its own
// buffers.
//
//     dsm_ext_serve_threads FOLDER [THREADS] [REQUESTS]

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dsm_ext/dsm_ext.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Request {
  at::Tensor image;  // [1, channels, height, width]
  std::promise<at::Tensor> logits;
};

class Server {
 public:
  Server(dsm_ext::VisionTransformer model, int threads) : model_(std::move(model)) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  }
  ~Server() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) {
      thread.join();
    }
  }

  std::future<at::Tensor> submit(at::Tensor image) {
    Request request{std::move(image), {}};
    auto logits = request.logits.get_future();
    {
      const std::lock_guard lock(mutex_);
      requests_.push(std::move(request));
    }
    changed_.notify_one();
    return logits;
  }

 private:
  void work() {
    at::set_num_threads(1);  // this thread uses one core; the other threads use the others
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return closed_ || !requests_.empty(); });
      if (requests_.empty()) {
        return;
      }
      auto request = std::move(requests_.front());
      requests_.pop();
      lock.unlock();
      try {
        request.logits.set_value(model_->forward(request.image));
      } catch (...) {  // the thread that made the request gets the error
        request.logits.set_exception(std::current_exception());
      }
    }
  }

  dsm_ext::VisionTransformer model_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::queue<Request> requests_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

int main(int argc, char** argv) try {
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int count = argc > 3 ? std::atoi(argv[3]) : 100;
  if (argc < 2 || threads < 1 || count < 1) {
    std::fprintf(stderr, "usage: %s FOLDER [THREADS] [REQUESTS]\n", argv[0]);
    return 2;
  }
  auto model = dsm_ext::load(argv[1], /*schedule=*/{}, {.dtype = at::kFloat});
  const auto& config = model->config();
  std::vector<at::Tensor> images, expected;
  for (int i = 0; i < 4; ++i) {
    images.push_back(at::randn({1, config.in_chans, config.img_size[0], config.img_size[1]}));
    expected.push_back(model->forward(images.back()));
  }
  int wrong = 0;
  const auto begin = Clock::now();
  {
    Server server(model, threads);
    std::vector<std::future<at::Tensor>> answers;
    for (int i = 0; i < count; ++i) {
      answers.push_back(server.submit(images[i % images.size()]));
    }
    for (int i = 0; i < count; ++i) {
      wrong += !at::allclose(answers[i].get(), expected[i % images.size()], 1e-4, 1e-4);
    }
  }
  const std::chrono::duration<double> seconds = Clock::now() - begin;
  std::printf(
      "%d requests by %d threads: %.1f images/s, %d wrong\n", count, threads,
      count / seconds.count(), wrong);
  return wrong == 0 ? 0 : 1;
} catch (const std::exception& error) {  // also dsm_ext::Error and c10::Error
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
