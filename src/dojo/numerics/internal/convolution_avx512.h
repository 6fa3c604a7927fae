// The AVX-512 path of convolution.h. Callers have made sure that the CPU has it.
#pragma once

#include "dojo/numerics/convolution.h"

namespace dojo::numerics::avx512 {

void convolution(ThreadPool& pool, const ConvolutionShape& shape, const ImageOperand& input,
                 const ImageOperand& weight, const ReduceCuts& cuts, const float* bias,
                 Activation activation, float* out);
void convolution_input_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                const ImageOperand& output_gradient, const ImageOperand& weight,
                                const ReduceCuts& cuts, float* out);
void convolution_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                                 const ImageOperand& output_gradient, const ImageOperand& input,
                                 const ReduceCuts& cuts, float* out);

}  // namespace dojo::numerics::avx512
