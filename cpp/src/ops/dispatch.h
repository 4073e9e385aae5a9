#pragma once

#include <ATen/Dispatch.h>

// The dtypes that `check_floating` lets through.
#define DSM_EXT_DISPATCH(TYPE, NAME, ...)                                                \
  AT_DISPATCH_SWITCH(                                                                    \
      TYPE, NAME,                                                                        \
      AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) AT_DISPATCH_CASE(at::kHalf, __VA_ARGS__) \
          AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))
