// Weight gradient: for each filter tap, the sum over images and output positions of output gradient
// times input. As a product: rows are output channels, columns are (tap, c), and the reduction
// walks n, z, y, x.
#pragma once

#include "dojo/base/thread_pool.h"
#include "dojo/numerics/convolution.h"
#include "dojo/numerics/internal/convolution_kernels.h"

namespace dojo::numerics::internal {

// As convolution_weight_gradient.
void run_weight_gradient(ThreadPool& pool, const ConvolutionShape& shape,
                         const ImageOperand& output_gradient, const ImageOperand& input,
                         const ReduceCuts& cuts, const Products& products, float* out);

}  // namespace dojo::numerics::internal
