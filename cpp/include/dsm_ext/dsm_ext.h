#pragma once

// Includes every public header of the library.
#include "dsm_ext/config.h"              // IWYU pragma: export
#include "dsm_ext/error.h"               // IWYU pragma: export
#include "dsm_ext/load.h"                // IWYU pragma: export
#include "dsm_ext/merge_rule.h"          // IWYU pragma: export
#include "dsm_ext/ops.h"                 // IWYU pragma: export
#include "dsm_ext/plan.h"                // IWYU pragma: export
#include "dsm_ext/precision.h"           // IWYU pragma: export
#include "dsm_ext/preprocessing.h"       // IWYU pragma: export
#include "dsm_ext/profile.h"             // IWYU pragma: export
#include "dsm_ext/schedule.h"            // IWYU pragma: export
#include "dsm_ext/version.h"             // IWYU pragma: export
#include "dsm_ext/vision_transformer.h"  // IWYU pragma: export
#include "dsm_ext/weights.h"             // IWYU pragma: export
