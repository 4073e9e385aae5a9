// Turns launches of the library's kernels into work: the kernels' text, compiled for the CPU.

#include <ATen/core/Tensor.h>

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tensor_core_on_cpu.h"

// The kernels come after the functions that they call.
#include "attention_kernel.cuh"
#include "match_kernel.cuh"
#include "merge_kernel.cuh"
#include "norm_kernel.cuh"
#include "rotate_kernel.cuh"
#include "row_shape.h"
#include "runtime.h"
#include "unmerge_kernel.cuh"

namespace {

using stand_in::Launch;
using stand_in::Work;

/// Reads a launch's arguments by the types of the kernel's parameters.
template <typename... Parameters>
Work launch_of(void (*kernel)(Parameters...), const Launch& launch) {
  const auto read = [&]<size_t... kIndices>(std::index_sequence<kIndices...>) {
    return std::tuple<std::remove_cv_t<Parameters>...>(
        *static_cast<std::remove_cv_t<Parameters>*>(launch.arguments[kIndices])...);
  };
  const auto arguments = read(std::index_sequence_for<Parameters...>{});
  return [=, blocks = launch.blocks, threads = launch.threads, shared = launch.shared_bytes] {
    cuda_on_cpu::launch(blocks, threads, shared, [&] { std::apply(kernel, arguments); });
  };
}

template <typename T>
Work launch_for(const std::string& type, const Launch& launch) {
  const auto is = [&](const std::string& name, const std::string& arguments) {
    return launch.kernel.find(
               " dsm_ext::cuda::" + name + "_kernel_impl<" + type + arguments + ">") !=
           std::string::npos;
  };
  using namespace dsm_ext::cuda;
  Work work = is("match", ", 2")          ? launch_of(&match_kernel_impl<T, 2>, launch)
              : is("match", ", 4")        ? launch_of(&match_kernel_impl<T, 4>, launch)
              : is("rotate", ", float")   ? launch_of(&rotate_kernel_impl<T, float>, launch)
              : is("rotate", ", " + type) ? launch_of(&rotate_kernel_impl<T, T>, launch)
              : is("unmerge", "")         ? launch_of(&unmerge_kernel_impl<T>, launch)
                                          : Work();
  // The channels for which with_row_shape chooses each of its kernels, and 1 for those of any
  // other.
  for (const int64_t channels : {1, 256, 384, 512, 768, 1024}) {
    with_row_shape(channels, [&]<int kPack, int kSteps>() {
      const auto arguments = ", " + std::to_string(kPack) + ", " + std::to_string(kSteps);
      if (is("merge", arguments)) {
        work = launch_of(&merge_kernel_impl<T, kPack, kSteps>, launch);
      } else if (is("norm", arguments)) {
        work = launch_of(&norm_kernel_impl<T, kPack, kSteps>, launch);
      }
    });
  }
  return work;
}

template <bool kBfloat16, int kDim>
Work attention_for(const Launch& launch) {
  const auto name = std::string(" dsm_ext::cuda::attention_kernel_impl<") +
                    (kBfloat16 ? "true, " : "false, ") + std::to_string(kDim) + ", ";
  return launch.kernel.find(name) != std::string::npos
             ? launch_of(&dsm_ext::cuda::attention_kernel_impl<kBfloat16, kDim>, launch)
             : Work();
}

template <int... kDims>
Work attention(const Launch& launch) {
  Work work;
  const auto try_one = [&](const auto& make) { work = work ? work : make(launch); };
  (try_one(&attention_for<true, kDims>), ...);
  (try_one(&attention_for<false, kDims>), ...);
  return work;
}

const bool given = [] {
  stand_in::set_launcher([](const Launch& launch) {
    if (launch.kernel.find("spin_kernel") != std::string::npos) {
      return Work([] {});  // this kernel of ATen only waits
    }
    auto work = attention<32, 64, 80, 96, 128>(launch);
    work = work ? work : launch_for<float>("float", launch);
    work = work ? work : launch_for<at::Half>("c10::Half", launch);
    return work ? work : launch_for<at::BFloat16>("c10::BFloat16", launch);
  });
  return true;
}();

}  // namespace
