// dojo_cuda_bench: prints one JSON object of ratios measured side by side on the GPU at hand,
// after checking the answers against the CPU's. cuBLAS, the opponent of the exact product, is
// loaded if it is installed (libcublas.so.13 or .12 in the loader's path, or the file that
// DOJO_CUBLAS names).
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <vector>

#include "dojo/numerics/cuda/codec.h"
#include "dojo/numerics/cuda/gemm.h"
#include "dojo/numerics/cuda/tensor_core.h"

namespace dojo::numerics::cuda {
namespace {

using nlohmann::json;

// The median of an action's times on the device, in seconds.
class Timer {
 public:
  Timer() {
    cudaEventCreate(&begin_);
    cudaEventCreate(&end_);
  }
  double seconds(const std::function<void()>& action) {
    cudaEventRecord(begin_);
    action();
    cudaEventRecord(end_);
    cudaEventSynchronize(end_);
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin_, end_);
    return milliseconds * 1e-3;
  }
  // Medians of both, measured in turn.
  std::pair<double, double> pair(const std::function<void()>& ours,
                                 const std::function<void()>& theirs, int pairs = 21) {
    std::vector<double> mine;
    std::vector<double> other;
    for (int i = 0; i < pairs + 3; ++i) {
      const double a = seconds(ours);
      const double b = seconds(theirs);
      if (i >= 3) {
        mine.push_back(a);
        other.push_back(b);
      }
    }
    return {median(mine), median(other)};
  }

 private:
  static double median(std::vector<double>& times) {
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                     times.end());
    return times[times.size() / 2];
  }
  cudaEvent_t begin_{};
  cudaEvent_t end_{};
};

void check(bool condition, const char* what) {
  if (!condition) {
    fmt::print(stderr, "dojo_cuda_bench: {}\n", what);
    std::exit(1);
  }
}

DeviceBytes device_bytes(std::int64_t size) {
  Result<DeviceBytes> bytes = DeviceBytes::allocate(size);
  check(bytes.has_value(), bytes.has_value() ? "" : bytes.error().message.c_str());
  return *std::move(bytes);
}

std::vector<float> normal_values(std::size_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  std::generate(values.begin(), values.end(), [&] { return normal(engine); });
  return values;
}

// Encoding against a copy that reads and writes as many bytes.
json codec_entry(Timer& timer, Rounding mode) {
  constexpr std::int64_t kCount = std::int64_t{1} << 28;
  const std::vector<float> host = normal_values(1 << 20, 1);
  const DeviceBytes in = device_bytes(kCount * 4);
  const DeviceBytes out = device_bytes(kCount);
  const DeviceBytes stats = device_bytes(sizeof(DeviceStats));
  for (std::int64_t at = 0; at < kCount; at += 1 << 20) {
    cudaMemcpy(in.data() + at * 4, host.data(), host.size() * 4, cudaMemcpyHostToDevice);
  }
  const StorageFormat to{Format::Cf8_1_4_3, 12};
  const RoundingSpec rounding{mode, {1, 2, 3}, 0};
  const auto ours = [&] {
    (void)encode(reinterpret_cast<const float*>(in.data()), kCount, to, rounding, out.data(),
                 reinterpret_cast<DeviceStats*>(stats.data()), nullptr);
  };
  ours();
  std::vector<std::byte> got(host.size());
  std::vector<std::byte> wanted(host.size());
  cudaMemcpy(got.data(), out.data(), got.size(), cudaMemcpyDeviceToHost);
  encode(host, to, rounding, wanted);
  check(got == wanted, "encoded codes differ from the CPU's");
  // The copy moves 5 bytes per element: half read, half written.
  constexpr std::int64_t kBytes = kCount * 5 / 2;
  const DeviceBytes target = device_bytes(kBytes);
  const auto copy = [&] {
    cudaMemcpyAsync(target.data(), in.data(), kBytes, cudaMemcpyDeviceToDevice);
  };
  const auto [mine, other] = timer.pair(ours, copy);
  return {{"ratio", other / mine},
          {"against", "device-to-device copy of as many bytes"},
          {"detail", {{"gigabytes_per_second", kCount * 5 / mine * 1e-9}}}};
}

// cuBLAS's single precision product through its C interface.
class Cublas {
 public:
  Cublas() {
    const char* named = std::getenv("DOJO_CUBLAS");
    for (const char* name : {named, "libcublas.so.13", "libcublas.so.12"}) {
      if (library_ == nullptr && name != nullptr) {
        library_ = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
      }
    }
    if (library_ != nullptr) {
      create_ = reinterpret_cast<int (*)(void**)>(dlsym(library_, "cublasCreate_v2"));
      sgemm_ = reinterpret_cast<Sgemm>(dlsym(library_, "cublasSgemm_v2"));
      check(create_ != nullptr && sgemm_ != nullptr && create_(&handle_) == 0,
            "cuBLAS does not start");
    }
  }
  bool is_there() const { return handle_ != nullptr; }
  // Row-major c = a b of n x n, in FP32 without TF32, as cuBLAS does by default.
  void multiply(int n, const float* a, const float* b, float* c) const {
    const float one = 1;
    const float zero = 0;
    sgemm_(handle_, 0, 0, n, n, n, &one, b, n, a, n, &zero, c, n);
  }

 private:
  using Sgemm = int (*)(void*, int, int, int, int, int, const float*, const float*, int,
                        const float*, int, const float*, float*, int);
  void* library_ = nullptr;
  void* handle_ = nullptr;
  int (*create_)(void**) = nullptr;
  Sgemm sgemm_ = nullptr;
};

struct Square {
  int n = 0;
  std::vector<std::byte> host_a;
  std::vector<std::byte> host_b;
  DeviceBytes a;
  DeviceBytes b;
  DeviceBytes c;

  explicit Square(int size) : n(size) {
    const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
    host_a.resize(count);
    host_b.resize(count);
    encode(normal_values(count, 5), type(), {}, host_a);
    encode(normal_values(count, 6), type(), {}, host_b);
    a = *DeviceBytes::copy_of(host_a);
    b = *DeviceBytes::copy_of(host_b);
    c = device_bytes(static_cast<std::int64_t>(count) * 4);
  }
  static StorageFormat type() { return {Format::Cf8_1_4_3, 12}; }
  GemmShape shape() const { return {n, n, n, {1, 1, 1}}; }
  MatrixOperand operand(const std::byte* data) const { return {{data, type(), 0}, n, 1, {}}; }
  MatrixOutput result() const { return {reinterpret_cast<float*>(c.data()), n, {}}; }
  Result<void> multiply() const {
    return gemm(shape(), operand(a.data()), operand(b.data()), {}, {}, result(), nullptr);
  }
  Result<void> multiply_on(const TensorCores& cores) const {
    return cores.gemm_fp8(shape(), operand(a.data()), operand(b.data()), {}, result(), nullptr);
  }
  double flops() const { return 2.0 * n * n * n; }
};

void check_product(const Square& square) {
  const auto count = static_cast<std::size_t>(square.n) * static_cast<std::size_t>(square.n);
  std::vector<float> wanted(count);
  ThreadPool pool(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 64u)));
  gemm(pool, square.shape(), square.operand(square.host_a.data()),
       square.operand(square.host_b.data()), {}, {}, {wanted.data(), square.n, {}});
  check(square.multiply().has_value(), "the exact product failed");
  std::vector<float> got(count);
  cudaMemcpy(got.data(), square.c.data(), count * 4, cudaMemcpyDeviceToHost);
  check(got == wanted, "the exact product differs from the CPU's");
}

json exact_entry(Timer& timer, const Cublas& cublas, int n) {
  const Square square(n);
  check_product(square);
  const auto count = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  const std::vector<float> values = normal_values(count, 5);
  const DeviceBytes a = *DeviceBytes::copy_of(std::as_bytes(std::span(values)));
  const DeviceBytes b = *DeviceBytes::copy_of(std::as_bytes(std::span(values)));
  const DeviceBytes c = device_bytes(static_cast<std::int64_t>(count) * 4);
  const auto [mine, other] =
      timer.pair([&] { (void)square.multiply(); },
                 [&] {
                   cublas.multiply(n, reinterpret_cast<const float*>(a.data()),
                                   reinterpret_cast<const float*>(b.data()),
                                   reinterpret_cast<float*>(c.data()));
                 });
  return {{"ratio", other / mine},
          {"against", "cuBLAS FP32"},
          {"detail", {{"n", n}, {"teraflops", square.flops() / mine * 1e-12}}}};
}

json tensor_core_entry(Timer& timer, const TensorCores& cores, int n) {
  const Square square(n);
  check(square.multiply_on(cores).has_value(), "the product on tensor cores failed");
  const auto [mine, other] =
      timer.pair([&] { (void)square.multiply_on(cores); }, [&] { (void)square.multiply(); });
  return {{"ratio", other / mine},
          {"against", "the exact product of the same codes"},
          {"detail", {{"n", n}, {"teraflops", square.flops() / mine * 1e-12}}}};
}

int run() {
  const Result<DeviceInfo> device = current_device();
  check(device.has_value(), device.has_value() ? "" : device.error().message.c_str());
  Timer timer;
  const Cublas cublas;
  const Result<TensorCores> cores = TensorCores::create();
  json entries{{"device", device->name}};
  entries["encode_nearest"] = codec_entry(timer, Rounding::NearestEven);
  entries["encode_stochastic"] = codec_entry(timer, Rounding::Stochastic);
  for (const int n : {1024, 2048, 4096, 8192}) {
    if (cublas.is_there()) {
      entries[fmt::format("gemm_exact_{}", n)] = exact_entry(timer, cublas, n);
    }
    if (cores.has_value()) {
      entries[fmt::format("gemm_tensor_core_fp8_{}", n)] = tensor_core_entry(timer, *cores, n);
    }
  }
  if (!cublas.is_there()) {
    entries["gemm_exact"] = "cuBLAS was not found, so nothing to compare with: set DOJO_CUBLAS";
  }
  fmt::print("{}\n", entries.dump(2));
  return 0;
}

}  // namespace
}  // namespace dojo::numerics::cuda

int main() { return dojo::numerics::cuda::run(); }
