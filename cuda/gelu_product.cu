#include "gelu_product.h"

#include <c10/cuda/CUDAStream.h>

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>

#include <algorithm>
#include <limits>

#include "gelu.cuh"
#include "launch.cuh"

// A linear layer and GELU by CUTLASS, for Hopper only: its matrix instructions and its copies of
// whole tiles exist on no other GPU.
//
// A block of threads computes tiles of 128 x 128 outputs until none is left ("persistent"). One
// warp group fetches tiles of input and weight; two others take turns: while one multiplies, the
// other adds the bias, applies GELU and stores ("pingpong"). So GELU costs no time as long as it
// takes less than the products of a tile.

namespace dsm_ext::cuda {
namespace {

constexpr int kColumns = 128;  // of a tile

template <typename Scalar>
struct Gelu;

/// GELU of the values that a thread holds, as CUTLASS calls it.
template <typename Scalar, int size>
struct Gelu<cutlass::Array<Scalar, size>> {
  __device__ cutlass::Array<Scalar, size> operator()(cutlass::Array<Scalar, size> x) const {
    CUTLASS_PRAGMA_UNROLL
    for (int i = 0; i < size; ++i) {
      x[i] = gelu(x[i]);
    }
    return x;
  }
};

/// \tparam rows  Of a tile.
template <typename Scalar, int rows>
struct Kernel {
  using Row = cutlass::layout::RowMajor;
  using Column = cutlass::layout::ColumnMajor;
  using Tile = cute::Shape<cute::Int<rows>, cute::Int<kColumns>, cute::_64>;
  using Cluster = cute::Shape<cute::_1, cute::_1, cute::_1>;
  static constexpr int kPacked = 16 / sizeof(Scalar);  // rows begin at addresses of 16 bytes

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto, float, float, void, Row, kPacked, Scalar,
      Row, kPacked, cutlass::epilogue::TmaWarpSpecialized,
      cutlass::epilogue::fusion::LinCombPerColBiasEltAct<Gelu, Scalar, float, Scalar, void>>::
      CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Scalar, Row, kPacked, Scalar, Column,
      kPacked, float, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<sizeof(typename Epilogue::SharedStorage)>,
      cutlass::gemm::KernelTmaWarpSpecializedPingpong>::CollectiveOp;
  using Type = cutlass::gemm::kernel::GemmUniversal<
      cute::Shape<int, int, int, int>, Mainloop, Epilogue, void>;
};

void check(cutlass::Status status, const char* step) {
  TORCH_CHECK(
      status == cutlass::Status::kSuccess, "dsm_ext: CUTLASS: ", cutlassGetStatusString(status),
      " from ", step);
}

template <typename Scalar, int tile_rows>
void launch(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, at::Tensor& out) {
  using Gemm =
      cutlass::gemm::device::GemmUniversalAdapter<typename Kernel<Scalar, tile_rows>::Type>;
  // CUTLASS takes pointers to values that change, and does not change these.
  const auto data = [](const at::Tensor& x) {
    return static_cast<Scalar*>(const_cast<void*>(x.const_data_ptr()));
  };
  const int64_t inputs = weight.size(1), outputs = weight.size(0);
  const auto rows = static_cast<int>(out.numel() / outputs);
  typename Gemm::Arguments arguments;
  arguments.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  arguments.problem_shape = {rows, static_cast<int>(outputs), static_cast<int>(inputs), 1};
  arguments.mainloop.ptr_A = data(input);
  arguments.mainloop.dA = {inputs, cute::_1{}, 0};
  arguments.mainloop.ptr_B = data(weight);
  arguments.mainloop.dB = {inputs, cute::_1{}, 0};
  arguments.epilogue.ptr_D = static_cast<Scalar*>(out.mutable_data_ptr());
  arguments.epilogue.dD = {outputs, cute::_1{}, 0};
  arguments.epilogue.thread.alpha = 1;
  arguments.epilogue.thread.beta = 0;
  arguments.epilogue.thread.bias_ptr = bias.defined() ? data(bias) : nullptr;
  arguments.hw_info.device_id = input.device().index();
  arguments.hw_info.sm_count = attribute(cudaDevAttrMultiProcessorCount);
  TORCH_INTERNAL_ASSERT(Gemm::get_workspace_size(arguments) == 0);
  check(Gemm::can_implement(arguments), "can_implement");
  const auto stream = c10::cuda::getCurrentCUDAStream();
  Gemm gemm;
  check(gemm.initialize(arguments, nullptr, stream), "initialize");
  check(gemm.run(stream), "run");
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

// The kernels are compiled for compute capability 9.0 alone. Whatever has it also has clusters.
bool fits_device() {
  return attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         attribute(cudaDevAttrComputeCapabilityMinor) == 0 &&
         attribute(cudaDevAttrClusterLaunch) != 0;
}

// Whether tiles of 128 rows keep the multiprocessors busy. On an H200 smaller tiles are faster for
// less than 1.5 of them a multiprocessor.
bool large_tiles(int64_t rows, int64_t outputs) {
  const int64_t tiles = ((rows + 127) / 128) * ((outputs + kColumns - 1) / kColumns);
  return 2 * tiles > 3 * attribute(cudaDevAttrMultiProcessorCount);
}

template <typename Scalar>
void run(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, at::Tensor& out) {
  const int64_t outputs = weight.size(0);
  large_tiles(out.numel() / outputs, outputs) ? launch<Scalar, 128>(input, weight, bias, out)
                                              : launch<Scalar, 64>(input, weight, bias, out);
}

bool aligned(const at::Tensor& x) {
  return !x.defined() || reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

}  // namespace

bool gelu_product(
    const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, at::Tensor& out) {
  const int64_t inputs = weight.size(1), outputs = weight.size(0);
  const int64_t rows = outputs == 0 ? 0 : out.numel() / outputs;
  const auto dtype = input.scalar_type();
  constexpr int64_t kMost = std::numeric_limits<int>::max() - 256;  // a tile may end beyond
  if ((dtype != at::kHalf && dtype != at::kBFloat16) || inputs == 0 || inputs % 8 != 0 ||
      outputs % 8 != 0 || std::max({rows, inputs, outputs}) > kMost || !fits_device() ||
      !aligned(input) || !aligned(weight) || !aligned(bias) || !aligned(out)) {
    return false;
  }
  dtype == at::kHalf ? run<cutlass::half_t>(input, weight, bias, out)
                     : run<cutlass::bfloat16_t>(input, weight, bias, out);
  return true;
}

}  // namespace dsm_ext::cuda
