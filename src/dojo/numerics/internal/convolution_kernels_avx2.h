// The AVX2 functions of convolution_kernels.h. Callers have made sure that the CPU has it.
#pragma once

#include "dojo/numerics/internal/convolution_kernels.h"

namespace dojo::numerics::avx2 {

const internal::ConvolutionKernels& convolution_kernels();

}  // namespace dojo::numerics::avx2
