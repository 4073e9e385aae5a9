#pragma once

#include <ATen/ATen.h>

#include "dsm_ext/dsm_ext.h"

// A model of 4 blocks with 32 channels over a grid of 14 x 14 patches, with random weights.

inline dsm_ext::Config small_config(bool distilled = false) {
  dsm_ext::Config config;
  config.img_size = {56, 56};
  config.patch_size = {4, 4};
  config.embed_dim = 32;
  config.depth = 4;
  config.num_heads = 2;
  config.mlp_dim = 64;
  config.num_classes = 10;
  config.distilled = distilled;
  return config;
}

inline dsm_ext::NamedTensors random_weights(const dsm_ext::VisionTransformer& model) {
  dsm_ext::NamedTensors weights;
  for (const auto& parameter : model->named_parameters()) {
    weights.emplace_back(parameter.key(), at::randn(parameter.value().sizes()) * 0.2);
  }
  return weights;
}

inline dsm_ext::VisionTransformer small_model(const char* schedule, bool distilled = false) {
  at::manual_seed(0);
  dsm_ext::VisionTransformer model(small_config(distilled), dsm_ext::Schedule::parse(schedule, 4));
  model->load_parameters(random_weights(model));
  return model;
}
