#include <ATen/Context.h>
#include <ATen/Functions.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>

#include "bounded_cache.h"
#include "cublaslt_product.h"
#include "fused.h"
#include "gelu_product.h"

// The operator `_linear`: by cuBLASLt, or by CUTLASS where the exact GELU follows and CUTLASS can.

namespace dsm_ext {
namespace {

using cuda::Product;
using cuda::ProductShape;

constexpr uint64_t kWorkspaceBytes = 32 << 20;  // as cuBLAS recommends for Hopper
constexpr uint32_t kAlignment = 16;             // bytes; an algorithm is chosen for such addresses
// When several blocks of threads share a sum, its parts stay in float32.
constexpr uint32_t kReduction = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

/// cuBLASLt on one device, and the algorithms that it chose for the shapes seen lately. Several
/// threads may use it at once.
class Library {
 public:
  Library() { DSM_EXT_CUBLAS_CHECK(cublasLtCreate(&handle_)); }

  cublasLtHandle_t handle() const { return handle_; }

  /// The algorithm for products of a shape; none when cuBLASLt has none.
  std::optional<cublasLtMatmulAlgo_t> algorithm(const ProductShape& shape) {
    const std::lock_guard lock(mutex_);
    const auto* chosen =
        algorithms_.find([&](const Chosen& other) { return other.shape == shape; });
    if (chosen == nullptr) {
      chosen = &algorithms_.put({shape, choose(shape)});
    }
    return chosen->algorithm;
  }

 private:
  struct Chosen {
    ProductShape shape;
    std::optional<cublasLtMatmulAlgo_t> algorithm;
  };

  std::optional<cublasLtMatmulAlgo_t> choose(const ProductShape& shape) const {
    // cuBLASLt reads the alignment of the bias's address, but no memory there.
    Product product(shape, reinterpret_cast<const void*>(uintptr_t{kAlignment}));
    cublasLtMatmulPreferenceOpaque_t preference;
    DSM_EXT_CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      DSM_EXT_CUBLAS_CHECK(
          cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReduction);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kAlignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kAlignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kAlignment);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kAlignment);
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    const auto status = cublasLtMatmulAlgoGetHeuristic(
        handle_, &product.operation, &product.weight, &product.input, &product.out, &product.out,
        &preference, 1, &result, &count);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0)) {
      return std::nullopt;
    }
    DSM_EXT_CUBLAS_CHECK(status);
    return result.algo;
  }

  cublasLtHandle_t handle_ = nullptr;  // never destroyed: at exit CUDA may end first
  std::mutex mutex_;
  BoundedCache<Chosen> algorithms_{1024};  // images of ever new sizes bring ever new shapes
};

// The library on the current device.
Library& library() {
  static std::mutex mutex;
  static auto& libraries = *new std::map<c10::DeviceIndex, Library>();
  const std::lock_guard lock(mutex);
  return libraries[c10::cuda::current_device()];
}

bool allows_tf32() {
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) ==
         at::Float32Precision::TF32;
}

cudaDataType_t type_of(at::ScalarType dtype) {
  return dtype == at::kFloat ? CUDA_R_32F : dtype == at::kHalf ? CUDA_R_16F : CUDA_R_16BF;
}

bool aligned(const at::Tensor& tensor) {
  return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % kAlignment == 0;
}

const void* data(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.const_data_ptr() : nullptr;
}

at::Tensor linear_kernel(
    const at::Tensor& input_, const at::Tensor& weight_, const std::optional<at::Tensor>& bias_,
    const std::optional<at::Tensor>& addend_, std::optional<std::string_view> gelu) {
  for (const auto& other : {std::optional(weight_), bias_, addend_}) {
    TORCH_CHECK_TYPE(
        !other || other->scalar_type() == input_.scalar_type(), "dsm_ext.linear: expected all of ",
        input_.scalar_type(), " like the input, got ", other->scalar_type());
    TORCH_CHECK_VALUE(
        !other || other->device() == input_.device(), "dsm_ext.linear: expected all on ",
        input_.device(), " like the input, got ", other->device());
  }
  const c10::cuda::CUDAGuard guard(input_.device());
  const auto input = input_.contiguous(), weight = weight_.contiguous();
  const auto bias = bias_ ? bias_->contiguous() : at::Tensor();
  const auto addend = addend_ ? addend_->contiguous() : at::Tensor();
  auto sizes = input.sizes().vec();
  sizes.back() = weight.size(0);
  auto out = at::empty(sizes, input.options());
  if (out.numel() == 0 || (gelu == "none" && cuda::gelu_product(input, weight, bias, out))) {
    return out;
  }
  const ProductShape shape{
      .rows = input.numel() / std::max<int64_t>(input.size(-1), 1),
      .inputs = weight.size(1),
      .outputs = weight.size(0),
      .type = type_of(input.scalar_type()),
      .tf32 = input.scalar_type() == at::kFloat && allows_tf32(),
      .bias = bias.defined(),
      .addend = addend.defined(),
      // cuBLASLt's GELU uses the hardware's tanh, which is exact enough for half precision only.
      .gelu_tanh = gelu == "tanh" && input.scalar_type() != at::kFloat};
  Product product(shape, data(bias));
  const auto all = {input, weight, bias, addend};
  auto& library = dsm_ext::library();
  std::optional<cublasLtMatmulAlgo_t> algorithm;
  if (std::all_of(
          all.begin(), all.end(), [](const auto& x) { return !x.defined() || aligned(x); })) {
    algorithm = library.algorithm(shape);
  }
  if (!algorithm) {
    out = at::linear(input, weight, bias_);
    return gelu ? at::gelu_(out, *gelu) : addend.defined() ? out.add_(addend) : out;
  }
  const auto workspace = at::empty(kWorkspaceBytes, input.options().dtype(at::kByte));
  const float alpha = 1, beta = shape.addend ? 1 : 0;
  DSM_EXT_CUBLAS_CHECK(cublasLtMatmul(
      library.handle(), &product.operation, &alpha, weight.const_data_ptr(), &product.weight,
      input.const_data_ptr(), &product.input, &beta,
      shape.addend ? addend.const_data_ptr() : out.const_data_ptr(), &product.out,
      out.mutable_data_ptr(), &product.out, &*algorithm, workspace.mutable_data_ptr(),
      kWorkspaceBytes, c10::cuda::getCurrentCUDAStream()));
  return gelu && !shape.gelu_tanh ? at::gelu_(out, *gelu) : out;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("_linear", &linear_kernel); }

}  // namespace dsm_ext
