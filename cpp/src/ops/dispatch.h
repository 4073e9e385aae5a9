#pragma once

#include <ATen/Dispatch.h>

// Runs code for a tensor's dtype, one of those that `check_floating` accepts.
#define DSM_EXT_DISPATCH(TYPE, NAME, ...)                                                \
  AT_DISPATCH_SWITCH(                                                                    \
      TYPE, NAME,                                                                        \
      AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__) \
          AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))
