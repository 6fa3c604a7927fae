// The product as FP8 tensor cores make it: codes are brought to the nearest OCP codes, k adjacent,
// and multiplied by cuBLASLt, which sums in an order and a width of its own.
#include <cublasLt.h>

#include <cmath>
#include <string>

#include "dojo/numerics/cuda/internal/batch.cuh"
#include "dojo/numerics/cuda/internal/status.cuh"
#include "dojo/numerics/cuda/tensor_core.h"

namespace dojo::numerics::cuda {
namespace {

using internal::round_up;

constexpr int kPad = 32;  // rows, columns and k: cuBLASLt wants multiples of 16
constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;

struct Source {
  const std::uint8_t* data;
  std::int64_t lane_stride;
  std::int64_t point_stride;
  std::int64_t lanes;
  std::int64_t points;
  internal::BatchStride batch_stride;
  int mantissa_bits;
  bool is_paper;
  std::uint32_t largest;  // finite code of the OCP format
};

// The OCP code of the same exponent and mantissa bits whose value, at equal bias, is nearest.
__device__ std::uint8_t ocp_code(const Source& from, std::uint32_t code) {
  const std::uint32_t sign = code & 0x80u;
  std::uint32_t magnitude = code & 0x7Fu;
  if (from.is_paper && magnitude < (1u << from.mantissa_bits)) {
    magnitude = (magnitude + (magnitude >> 1 & 1u)) >> 1;  // half, ties to even
  }
  return static_cast<std::uint8_t>(sign | min(magnitude, from.largest));
}

// to[lane * padded_points + point], zeros beyond the operand.
__global__ void pack_kernel(Source from, internal::Batch batch, std::int64_t padded_lanes,
                            std::int64_t padded_points, std::uint8_t* to) {
  __shared__ std::uint8_t tile[32][33];
  const bool is_along_points = from.point_stride == 1;
  const std::int64_t product = blockIdx.z;
  const std::int64_t base = from.batch_stride.offset(batch, product);
  const std::int64_t first_lane = std::int64_t{blockIdx.y} * 32;
  const std::int64_t first_point = std::int64_t{blockIdx.x} * 32;
  const int x = static_cast<int>(threadIdx.x);
  for (int y = static_cast<int>(threadIdx.y); y < 32; y += 8) {
    const std::int64_t lane = first_lane + (is_along_points ? y : x);
    const std::int64_t point = first_point + (is_along_points ? x : y);
    const bool is_real = lane < from.lanes && point < from.points;
    tile[is_along_points ? y : x][is_along_points ? x : y] =
        is_real
            ? ocp_code(from, from.data[base + lane * from.lane_stride + point * from.point_stride])
            : std::uint8_t{0};
  }
  __syncthreads();
  for (int y = static_cast<int>(threadIdx.y); y < 32; y += 8) {
    to[(product * padded_lanes + first_lane + y) * padded_points + first_point + x] = tile[y][x];
  }
}

// The result without its padding, finished.
__global__ void finish_kernel(const float* sums, std::int64_t padded_m, std::int64_t padded_n,
                              GemmShape shape, internal::Batch batch, Epilogue epilogue,
                              internal::BatchStride stride, MatrixOutput out) {
  const std::int64_t column = std::int64_t{blockIdx.x} * 32 + threadIdx.x;
  const std::int64_t row = std::int64_t{blockIdx.y} * 8 + threadIdx.y;
  const std::int64_t product = blockIdx.z;
  if (row < shape.m && column < shape.n) {
    const float sum = sums[(product * padded_m + row) * padded_n + column];
    out.data[stride.offset(batch, product) + row * out.row_stride + column] =
        internal::finished(epilogue, sum, row, column);
  }
}

Result<void> ok(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) {
    return {};
  }
  return Error{ErrorKind::Io,
               std::string("cuBLASLt: ") + what + ": " + cublasLtGetStatusString(status)};
}

bool is_e4m3(const MatrixOperand& operand) {
  return operand.storage.type.format == Format::Cf8_1_4_3;
}
cudaDataType type_of(const MatrixOperand& operand) {
  return is_e4m3(operand) ? CUDA_R_8F_E4M3 : CUDA_R_8F_E5M2;
}

// log2 of what a product of codes lacks: OCP's bias against the tensor's.
int scale_exponent(const MatrixOperand& operand) {
  return (is_e4m3(operand) ? 7 : 15) - operand.storage.type.bias;
}

Result<void> pack(const MatrixOperand& operand, std::int64_t lanes, std::int64_t lane_stride,
                  std::int64_t points, std::int64_t point_stride, const internal::Batch& batch,
                  std::int64_t padded_k, std::uint8_t* to, cudaStream_t stream) {
  const Source from{
      static_cast<const std::uint8_t*>(operand.storage.data) + operand.storage.offset,
      lane_stride,
      point_stride,
      lanes,
      points,
      internal::BatchStride(operand.batch_stride),
      is_e4m3(operand) ? 3 : 2,
      operand.storage.type.denormals == DenormalScale::Paper,
      is_e4m3(operand) ? 0x7Eu : 0x7Bu,
  };
  const std::int64_t padded_lanes = round_up(lanes, kPad);
  const dim3 blocks(static_cast<unsigned>(padded_k / 32), static_cast<unsigned>(padded_lanes / 32),
                    static_cast<unsigned>(batch.count()));
  pack_kernel<<<blocks, dim3(32, 8), 0, stream>>>(from, batch, padded_lanes, padded_k, to);
  return internal::launched("packing an operand");
}

// A column-major matrix of a batch.
class Layout {
 public:
  static Result<Layout> create(cudaDataType type, std::int64_t rows, std::int64_t columns,
                               std::int64_t batch) {
    Layout made;
    DOJO_TRY_VOID(
        ok(cublasLtMatrixLayoutCreate(&made.layout_, type, static_cast<std::uint64_t>(rows),
                                      static_cast<std::uint64_t>(columns), rows),
           "a layout"));
    const auto count = static_cast<std::int32_t>(batch);
    const std::int64_t stride = rows * columns;
    DOJO_TRY_VOID(ok(cublasLtMatrixLayoutSetAttribute(
                         made.layout_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)),
                     "a batch"));
    DOJO_TRY_VOID(
        ok(cublasLtMatrixLayoutSetAttribute(
               made.layout_, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof(stride)),
           "a batch"));
    return Result<Layout>(std::move(made));
  }
  Layout() = default;
  ~Layout() {
    if (layout_ != nullptr) {
      cublasLtMatrixLayoutDestroy(layout_);
    }
  }
  Layout(Layout&& other) noexcept : layout_(std::exchange(other.layout_, nullptr)) {}
  Layout& operator=(Layout&&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

struct Sizes {
  std::int64_t m;
  std::int64_t n;
  std::int64_t k;
  std::int64_t batch;
};

// sums[m][n] = scale a[m][k] b[n][k]: to cuBLASLt, which counts columns first, the transposed
// product of the transposed operands.
Result<void> multiply(cublasLtHandle_t handle, const Sizes& sizes, cudaDataType type_a,
                      const std::uint8_t* a, cudaDataType type_b, const std::uint8_t* b,
                      float scale, float* sums, cudaStream_t stream) {
  cublasLtMatmulDescOpaque_t description{};
  DOJO_TRY_VOID(
      ok(cublasLtMatmulDescInit(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a description"));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  DOJO_TRY_VOID(ok(cublasLtMatmulDescSetAttribute(&description, CUBLASLT_MATMUL_DESC_TRANSA,
                                                  &transposed, sizeof(transposed)),
                   "a description"));
  DOJO_TRY(const Layout layout_b, Layout::create(type_b, sizes.k, sizes.n, sizes.batch));
  DOJO_TRY(const Layout layout_a, Layout::create(type_a, sizes.k, sizes.m, sizes.batch));
  DOJO_TRY(const Layout layout_c, Layout::create(CUDA_R_32F, sizes.n, sizes.m, sizes.batch));
  DOJO_TRY(const internal::Scratch workspace, internal::Scratch::allocate(kWorkspaceBytes, stream));
  cublasLtMatmulPreferenceOpaque_t preference{};
  DOJO_TRY_VOID(ok(cublasLtMatmulPreferenceInit(&preference), "a preference"));
  const std::uint64_t most = kWorkspaceBytes;
  DOJO_TRY_VOID(ok(cublasLtMatmulPreferenceSetAttribute(
                       &preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof(most)),
                   "a preference"));
  cublasLtMatmulHeuristicResult_t algorithm{};
  int found = 0;
  DOJO_TRY_VOID(ok(cublasLtMatmulAlgoGetHeuristic(handle, &description, layout_b.get(),
                                                  layout_a.get(), layout_c.get(), layout_c.get(),
                                                  &preference, 1, &algorithm, &found),
                   "no FP8 product of this shape"));
  const float zero = 0;
  return ok(cublasLtMatmul(handle, &description, &scale, b, layout_b.get(), a, layout_a.get(),
                           &zero, sums, layout_c.get(), sums, layout_c.get(), &algorithm.algo,
                           workspace.as<void>(), static_cast<std::size_t>(kWorkspaceBytes), stream),
            "the product");
}

Result<void> check_formats(const MatrixOperand& a, const MatrixOperand& b) {
  for (const MatrixOperand* operand : {&a, &b}) {
    const Format format = operand->storage.type.format;
    if (format != Format::Cf8_1_4_3 && format != Format::Cf8_1_5_2) {
      return Error{ErrorKind::Unsupported, "FP8 tensor cores take cf8_1_4_3 and cf8_1_5_2, not " +
                                               std::string(info(format).name)};
    }
  }
  if (!is_e4m3(a) && !is_e4m3(b)) {
    return Error{ErrorKind::Unsupported,
                 "cuBLASLt multiplies no two E5M2 operands: one of them must be cf8_1_4_3"};
  }
  return {};
}

}  // namespace

Result<TensorCores> TensorCores::create() {
  DOJO_TRY(const DeviceInfo device, current_device());
  if (device.compute_capability < 89) {
    return Error{ErrorKind::Unsupported,
                 device.name + " has no FP8 tensor cores: they need compute capability 8.9"};
  }
  TensorCores cores;
  cublasLtHandle_t handle = nullptr;
  DOJO_TRY_VOID(ok(cublasLtCreate(&handle), "starting"));
  cores.handle_ = handle;
  return Result<TensorCores>(std::move(cores));
}

TensorCores::~TensorCores() {
  if (handle_ != nullptr) {
    cublasLtDestroy(static_cast<cublasLtHandle_t>(handle_));
  }
}

TensorCores::TensorCores(TensorCores&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)) {}

Result<void> TensorCores::gemm_fp8(const GemmShape& shape, const MatrixOperand& a,
                                   const MatrixOperand& b, const Epilogue& epilogue,
                                   const MatrixOutput& out, cudaStream_t stream) const {
  DOJO_TRY_VOID(check_formats(a, b));
  const internal::Batch batch(shape.batch);
  if (shape.m == 0 || shape.n == 0 || batch.count() == 0) {
    return {};
  }
  const Sizes sizes{round_up(shape.m, kPad), round_up(shape.n, kPad),
                    round_up(std::max<std::int64_t>(shape.k, 1), kPad), batch.count()};
  const std::int64_t bytes_a = sizes.batch * sizes.m * sizes.k;
  const std::int64_t bytes_b = sizes.batch * sizes.n * sizes.k;
  const std::int64_t bytes_sums = sizes.batch * sizes.m * sizes.n * 4;
  DOJO_TRY(const internal::Scratch scratch,
           internal::Scratch::allocate(bytes_a + bytes_b + bytes_sums, stream));
  float* sums = scratch.as<float>();
  std::uint8_t* codes_a = scratch.as<std::uint8_t>() + bytes_sums;
  std::uint8_t* codes_b = codes_a + bytes_a;
  DOJO_TRY_VOID(
      pack(a, shape.m, a.row_stride, shape.k, a.column_stride, batch, sizes.k, codes_a, stream));
  DOJO_TRY_VOID(
      pack(b, shape.n, b.column_stride, shape.k, b.row_stride, batch, sizes.k, codes_b, stream));
  const float scale = std::ldexp(1.0F, scale_exponent(a) + scale_exponent(b));
  DOJO_TRY_VOID(multiply(static_cast<cublasLtHandle_t>(handle_), sizes, type_of(a), codes_a,
                         type_of(b), codes_b, scale, sums, stream));
  const dim3 blocks(static_cast<unsigned>(sizes.n / 32), static_cast<unsigned>(sizes.m / 8),
                    static_cast<unsigned>(sizes.batch));
  finish_kernel<<<blocks, dim3(32, 8), 0, stream>>>(sums, sizes.m, sizes.n, shape, batch, epilogue,
                                                    internal::BatchStride(out.batch_stride), out);
  return internal::launched("finishing the product");
}

}  // namespace dojo::numerics::cuda
