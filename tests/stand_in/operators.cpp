// Makes ATen's operators on the stand-in's device run the CPU's operators on the same memory.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstring>
#include <optional>
#include <set>

#include "runtime.h"

namespace {

void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

// A CPU tensor on the same memory. It does not keep the memory alive: a graph's work reads whatever
// is there when the graph is launched.
at::Tensor on_cpu(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) {
    return tensor;
  }
  const auto options = tensor.options().device(at::kCPU);
  if (tensor.numel() == 0) {
    return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  }
  return at::from_blob(
      const_cast<void*>(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
}

std::optional<at::Tensor> on_cpu(const std::optional<at::Tensor>& tensor) {
  return tensor ? std::optional(on_cpu(*tensor)) : std::nullopt;
}

c10::IValue value_on_cpu(const c10::IValue& value) {
  if (value.isTensor()) {
    return on_cpu(value.toTensor());
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> all;
    for (const at::Tensor& tensor : value.toTensorVector()) {
      all.push_back(on_cpu(tensor));
    }
    return all;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> all;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector()) {
      all.push_back(on_cpu(tensor));
    }
    return all;
  }
  return value.isDevice() ? c10::IValue(c10::Device(at::kCPU)) : value;
}

// The place on the device where a result of the CPU's operator is copied to.
struct Place {
  void* data = nullptr;
  size_t bytes = 0;

  void take(const at::Tensor& from) const {
    std::memcpy(data, from.const_data_ptr(), std::min(bytes, from.storage().nbytes()));
  }
};

Place place_of(const at::Tensor& tensor) {
  return tensor.numel() == 0 ? Place{}
                             : Place{tensor.mutable_data_ptr(), tensor.storage().nbytes()};
}

// Runs an operator that both devices have. Arguments share the caller's memory. New results are
// copied to memory on the device; a launch of the graph copies them to the same memory again.
void redirect(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto arguments = torch::jit::pop(*stack, schema.arguments().size());
  c10::Device device(at::kCUDA, c10::cuda::current_device());
  std::vector<c10::IValue> own;
  for (const auto& argument : arguments) {
    own.push_back(value_on_cpu(argument));
    if (argument.isTensor() && argument.toTensor().defined() && argument.toTensor().is_cuda()) {
      device = argument.toTensor().device();
    }
  }
  const c10::cuda::CUDAGuard guard(device);
  const auto call = [op, own] {
    const c10::InferenceMode mode;
    torch::jit::Stack results(own.begin(), own.end());
    op.callBoxed(&results);
    return results;
  };
  const auto results = call();
  std::vector<Place> places(results.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const auto* alias = schema.returns()[i].alias_info();
    if (!results[i].isTensor() || !results[i].toTensor().defined()) {
      stack->push_back(results[i]);
      continue;
    }
    const auto& result = results[i].toTensor();
    at::Tensor given;
    for (size_t j = 0; alias != nullptr && j < arguments.size(); ++j) {
      const auto* other = schema.arguments()[j].alias_info();
      if (other != nullptr && other->beforeSets() == alias->beforeSets()) {
        given = arguments[j].toTensor();
      }
    }
    if (!given.defined() || given.sizes() != result.sizes()) {
      given = given.defined()
                  ? given.resize_(result.sizes()).as_strided_(result.sizes(), result.strides())
                  : at::empty_strided(
                        result.sizes(), result.strides(), result.options().device(device));
      places[i] = place_of(given);
      if (places[i].data != nullptr) {
        places[i].take(result);
      }
    }
    stack->push_back(given);
  }
  if (stand_in::captures(current_stream())) {
    stand_in::put(current_stream(), [call, places, done = std::make_shared<bool>(true)] {
      if (std::exchange(*done, false)) {
        return;  // the capture has just done this
      }
      const auto again = call();
      for (size_t i = 0; i < places.size(); ++i) {
        if (places[i].data != nullptr) {
          places[i].take(again[i].toTensor());
        }
      }
    });
  }
}

// Operators that the CPU has under other names.

at::Tensor attend(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias, std::optional<double> scale) {
  if (bias) {  // CUDA's kernels read packs of 8 values
    TORCH_CHECK(reinterpret_cast<uintptr_t>(bias->const_data_ptr()) % 16 == 0);
    TORCH_CHECK(bias->stride(0) % 8 == 0 && bias->stride(1) % 8 == 0 && bias->stride(2) % 8 == 0);
  }
  const auto out = at::empty({q.size(0), q.size(2), q.size(1), v.size(3)}, q.options());
  stand_in::put(
      current_stream(),
      [=, to = on_cpu(out), q = on_cpu(q), k = on_cpu(k), v = on_cpu(v), bias = on_cpu(bias)] {
        const c10::InferenceMode mode;
        at::Tensor(to).copy_(
            at::scaled_dot_product_attention(q, k, v, bias, 0., false, scale).transpose(1, 2));
      });
  return out.transpose(1, 2);
}

at::Tensor none(const at::Tensor& like) { return at::empty({0}, like.options()); }

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> efficient_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& bias, bool, double, bool, std::optional<double> scale) {
  return {attend(q, k, v, bias, scale), none(q), none(q), none(q)};
}

using Attended = std::tuple<
    at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor,
    at::Tensor, at::Tensor>;

Attended flash_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double, bool, bool,
    std::optional<double> scale) {
  return {
      attend(q, k, v, {}, scale),
      none(q),
      none(q),
      none(q),
      q.size(2),
      k.size(2),
      none(q),
      none(q),
      none(q)};
}

std::tuple<at::Tensor, at::Tensor> rms_norm(
    const at::Tensor& x, at::IntArrayRef shape, const std::optional<at::Tensor>& weight,
    std::optional<double> eps) {
  const auto out = at::empty(x.sizes(), x.options());
  stand_in::put(
      current_stream(),
      [=, to = on_cpu(out), x = on_cpu(x), shape = shape.vec(), weight = on_cpu(weight)] {
        const c10::InferenceMode mode;
        at::Tensor(to).copy_(at::rms_norm(x, shape, weight, eps));
      });
  return {out, none(x)};
}

// Operators that allocate a tensor or make a view of it. CUDA's own do this without a kernel.
const std::set<std::string> kCudas = {
    "_efficientzerotensor",
    "_nested_view_from_buffer",
    "_pin_memory",
    "_reshape_alias",
    "as_strided",
    "empty.memory_format",
    "empty_strided",
    "is_pinned",
    "is_set_to",
    "record_stream",
    "resize_",
    "set_",
    "set_.source_Storage",
    "set_.source_Storage_storage_offset",
    "set_.source_Tensor",
    "unfold",
    "view",
    "view_as_complex",
    "view_as_real"};
const std::set<std::string> kOwn = {
    "_fused_rms_norm", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_flash_attention"};

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNames()) {
    const std::string space = "aten::";
    if (name.name.rfind(space, 0) != 0) {
      continue;
    }
    const auto own = name.name.substr(space.size()) +
                     (name.overload_name.empty() ? "" : "." + name.overload_name);
    const auto op = dispatcher.findSchema(name);
    const bool both =
        op && (own == "copy_" || (op->hasKernelForDispatchKey(c10::DispatchKey::CPU) &&
                                  op->hasKernelForDispatchKey(c10::DispatchKey::CUDA)));
    if (both && kCudas.count(own) == 0 && kOwn.count(own) == 0) {
      m.impl(own.c_str(), torch::CppFunction::makeFromBoxedFunction<&redirect>());
    }
  }
  m.impl("_fused_rms_norm", &rms_norm);
  m.impl("_scaled_dot_product_efficient_attention", &efficient_attention);
  m.impl("_scaled_dot_product_flash_attention", &flash_attention);
}

}  // namespace
