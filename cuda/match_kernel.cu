#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <vector>

#include "dispatch.h"
#include "launch.cuh"
#include "match.h"

// Bipartite soft matching on a GPU: one block of threads for each group (an image, or one window
// of an image), and everything but the metric in shared memory: a scale and a validity for each
// token, a similarity and a partner for each token of A (16 bytes a token). A thread owns a token
// of A, and sums each score over the channels in their order, so equal rows score equally. The
// metric is read T/2 times, from cache: this is the plain version, right before it is quick.

namespace dsm_ext {
namespace {

constexpr int64_t kSharedBytes = 48 * 1024;  // what every architecture has without asking

struct GroupShape {
  int64_t begin;   // of the group's tokens in the window-major order
  int64_t tokens;  // T
  int64_t r;       // tokens to remove
  int64_t base;    // of the group's output
};

template <typename T>
__global__ void match_kernel_impl(
    const T* __restrict__ metric,       // [B, N, D]
    const int32_t* __restrict__ order,  // [N - P] or null
    const GroupShape* __restrict__ groups, int64_t count, int64_t tokens, int64_t dim,
    int64_t prefix, bool global, int32_t* __restrict__ destination) {  // [B, N]
  extern __shared__ char shared[];
  const int64_t image = blockIdx.x / count;
  const GroupShape group = groups[blockIdx.x % count];
  const auto n = static_cast<int>(group.tokens);
  float* scale = reinterpret_cast<float*>(shared);  // [T]; 0 for a row that is matched last
  float* similarity = scale + n;                    // [A]
  int* partner = reinterpret_cast<int*>(similarity + n);
  int* kept = partner + n;
  metric += image * tokens * dim;
  destination += image * tokens;

  // A global step counts positions over the whole sequence, so that an odd prefix makes B first.
  const int first_a = global ? static_cast<int>(prefix % 2) : 0;
  const int first_b = 1 - first_a;
  const int a_count = (n - first_a + 1) / 2;
  const int b_count = n - a_count;
  const auto token = [&](int place) {
    const int64_t grid = group.begin + place;
    return prefix + (order == nullptr ? grid : order[grid]);
  };

  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const T* row = metric + token(i) * dim;
    double squares = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const double value = static_cast<float>(row[d]);
      squares += value * value;
    }
    scale[i] = squares > 0 && isfinite(squares) ? static_cast<float>(1 / sqrt(squares)) : 0.f;
  }
  __syncthreads();

  for (int i = threadIdx.x; i < a_count; i += blockDim.x) {
    const int place = 2 * i + first_a;
    const T* row = metric + token(place) * dim;
    float best = -INFINITY;
    int best_b = 0;
    for (int j = 0; scale[place] != 0 && j < b_count; ++j) {
      const int other = 2 * j + first_b;
      if (scale[other] == 0) {
        continue;
      }
      const T* column = metric + token(other) * dim;
      float score = 0;
      for (int64_t d = 0; d < dim; ++d) {
        score += (static_cast<float>(row[d]) * scale[place]) *
                 (static_cast<float>(column[d]) * scale[other]);
      }
      if (score > best) {
        best = score;
        best_b = j;
      }
    }
    similarity[i] = best;
    partner[i] = best_b;
  }
  __syncthreads();

  for (int i = threadIdx.x; i < a_count; i += blockDim.x) {
    int rank = 0;
    for (int k = 0; k < a_count; ++k) {
      rank += similarity[k] > similarity[i] || (similarity[k] == similarity[i] && k < i);
    }
    kept[i] = rank < group.r;
  }
  __syncthreads();

  const int64_t base_b = group.base + a_count - group.r;
  for (int j = threadIdx.x; j < b_count; j += blockDim.x) {
    destination[token(2 * j + first_b)] = static_cast<int32_t>(base_b + j);
  }
  for (int i = threadIdx.x; i < a_count; i += blockDim.x) {
    int before = 0;  // unmerged tokens of A in front of this one
    for (int k = 0; k < i; ++k) {
      before += !kept[k];
    }
    destination[token(2 * i + first_a)] =
        static_cast<int32_t>(kept[i] ? base_b + partner[i] : group.base + before);
  }
  if (blockIdx.x % count == 0) {
    for (int i = threadIdx.x; i < prefix; i += blockDim.x) {
      destination[i] = i;
    }
  }
}

std::vector<GroupShape> make_groups(
    int64_t tokens, int64_t r, int64_t prefix, at::IntArrayRef windows) {
  if (windows.empty()) {
    return {{0, tokens - prefix, r, prefix}};
  }
  std::vector<GroupShape> groups;
  int64_t begin = 0, base = prefix;
  for (const int64_t size : windows) {
    groups.push_back({begin, size, removed_from_window(size, r), base});
    begin += size;
    base += size - groups.back().r;
  }
  return groups;
}

at::Tensor match_kernel(
    const at::Tensor& metric, int64_t r, int64_t prefix, at::IntArrayRef windows,
    const std::optional<at::Tensor>& order) {
  check_match(metric, r, prefix, windows, order);
  const c10::cuda::CUDAGuard guard(metric.device());
  const int64_t images = metric.size(0), tokens = metric.size(1), dim = metric.size(2);
  const auto integers = metric.options().dtype(at::kInt);
  if (r == 0 || images == 0) {
    return at::arange(tokens, integers).repeat({images, 1});
  }
  const auto groups = make_groups(tokens, r, prefix, windows);
  int64_t largest = 0;
  for (const auto& group : groups) {
    largest = std::max(largest, group.tokens);
  }
  const int64_t shared = largest * 4 * static_cast<int64_t>(sizeof(float));
  TORCH_CHECK_NOT_IMPLEMENTED(
      shared <= kSharedBytes, "dsm_ext.match: expected at most ", kSharedBytes / 16,
      " tokens in a group on a GPU, got ", largest);

  auto destination = at::empty({images, tokens}, integers);
  // From pageable memory the copy is staged before the call returns: `groups` may go afterwards.
  const auto shapes = at::from_blob(
                          const_cast<GroupShape*>(groups.data()),
                          {static_cast<int64_t>(groups.size() * sizeof(GroupShape))}, at::kByte)
                          .to(metric.device(), /*non_blocking=*/true);
  const auto rows = metric.contiguous();
  const auto places = order.has_value() ? order->contiguous() : at::Tensor();
  const auto count = static_cast<int64_t>(groups.size());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  DSM_EXT_DISPATCH(rows.scalar_type(), "match", [&] {
    match_kernel_impl<scalar_t>
        <<<static_cast<unsigned>(images * count), cuda::kThreads, shared, stream>>>(
            rows.const_data_ptr<scalar_t>(),
            places.defined() ? places.const_data_ptr<int32_t>() : nullptr,
            static_cast<const GroupShape*>(shapes.const_data_ptr()), count, tokens, dim, prefix,
            windows.empty(), destination.mutable_data_ptr<int32_t>());
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return destination;
}

}  // namespace

TORCH_LIBRARY_IMPL(dsm_ext, CUDA, m) { m.impl("match", &match_kernel); }

}  // namespace dsm_ext
